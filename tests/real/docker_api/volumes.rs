//! Volumes: made by name and for containers, filled from images, shared, removed, and kept as long as somebody uses them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::execs::ran;
use super::wire::Docker;
use crate::cli::fnctr;
use crate::world::Stage;

/// An image that has files where it declares a volume.
fn load(stage: &Stage) {
    let layer = stage.real.dir().join("layer");
    std::fs::create_dir_all(layer.join("data/sub")).expect("a directory");
    std::fs::write(layer.join("data/given"), "by the image\n").expect("a file");
    std::os::unix::fs::symlink("given", layer.join("data/link")).expect("a link");
    std::fs::set_permissions(layer.join("data"), Permissions::from_mode(0o1770)).expect("a mode");
    let archive = stage.real.dir().join("voluminous.tar");
    let made = std::process::Command::new("tools/make-image.sh")
        .args(["--name", "voluminous", "--volume", "/data", "--add"])
        .arg(&layer)
        .arg(&archive)
        .output()
        .expect("to run");
    assert!(made.status.success(), "{made:?}");
    let archive = archive.to_str().expect("text");
    let loaded = fnctr(stage, &["load", archive]).output().expect("to run");
    assert!(loaded.status.success(), "{loaded:?}");
    std::fs::remove_dir_all(&layer).expect("to be removed");
    std::fs::remove_file(archive).expect("to be removed");
}

fn volume(docker: &Docker, name: &str) -> Value {
    docker.get(&format!("/volumes/{name}")).json()
}

fn files_of(docker: &Docker, name: &str) -> PathBuf {
    let shown = volume(docker, name);
    PathBuf::from(shown["Mountpoint"].as_str().expect("a path"))
}

fn names(docker: &Docker) -> Vec<String> {
    let listed = docker.get("/volumes").json();
    let volumes = listed["Volumes"].as_array().expect("a list").iter();
    volumes
        .map(|volume| volume["Name"].as_str().expect("a name").to_owned())
        .collect()
}

fn mounts(docker: &Docker, name: &str) -> Vec<Value> {
    let shown = docker.get(&format!("/containers/{name}/json")).json();
    shown["Mounts"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_its_containers_and_gets_what_the_image_has_at_its_place() {
    let Some(stage) = Stage::set("docker_volumes").await else {
        return;
    };
    load(&stage);
    let docker = Docker::serve(&stage);
    let said = docker.post(
        "/volumes/create",
        &json!({ "Name": "store", "Labels": { "team": "red" } }),
    );
    assert_eq!(said.status, 201, "{said:?}");
    assert_eq!(said.json(), volume(&docker, "store"));
    // Filled before the first start, as in Docker.
    docker.create(
        "one",
        json!({ "Image": "voluminous", "Cmd": ["sleep", "1000"], "HostConfig": { "Binds": ["store:/data"] } }),
    );
    let store = files_of(&docker, "store");
    let seen = std::fs::metadata(&store).expect("a directory");
    assert_eq!(seen.permissions().mode() & 0o7777, 0o1770);
    assert_eq!(
        std::fs::read(store.join("given")).expect("a file"),
        b"by the image\n"
    );
    assert_eq!(
        std::fs::read_link(store.join("link")).expect("a link"),
        Path::new("given")
    );
    let [mount] = mounts(&docker, "one").try_into().expect("one mount");
    assert_eq!(
        mount,
        json!({
            "Type": "volume", "Name": "store", "Source": store, "Destination": "/data", "Driver": "local", "Mode": "z",
            "RW": true, "Propagation": "",
        })
    );
    docker.done("POST", "/containers/one/start");
    assert_eq!(
        ran(
            &docker,
            "one",
            &["sh", "-c", "cat /data/given; echo mine >/data/new"]
        )
        .0,
        "by the image\n"
    );
    // In use.
    let said = docker.ask("DELETE", "/volumes/store");
    assert_eq!(said.status, 409, "{said:?}");
    let id = docker.get("/containers/one/json").json();
    let id = id["Id"].as_str().expect("an id");
    assert_eq!(said.message(), format!("remove store: volume is in use - [{id}]"));
    // Another container, which may only read, while the first one runs; what is there is not overwritten.
    docker.create(
        "two",
        json!({ "Image": "voluminous", "Cmd": ["sleep", "1000"],
                "HostConfig": { "Mounts": [{ "Type": "volume", "Source": "store", "Target": "/data", "ReadOnly": true }] } }),
    );
    docker.done("POST", "/containers/two/start");
    assert_eq!(
        ran(
            &docker,
            "two",
            &[
                "sh",
                "-c",
                "cat /data/new; touch /data/x 2>/dev/null || echo closed"
            ]
        )
        .0,
        "mine\nclosed\n"
    );
    for name in ["one", "two"] {
        docker.done("DELETE", &format!("/containers/{name}?force=1&v=1"));
    }
    assert_eq!(names(&docker), ["store"], "one with a name stays");
    assert_eq!(std::fs::read(store.join("new")).expect("a file"), b"mine\n");
    docker.done("DELETE", "/volumes/store");
    assert!(!store.exists());
    assert_eq!(docker.ask("DELETE", "/volumes/store").status, 404);
    docker.done("DELETE", "/volumes/store?force=1");
    assert_eq!(docker.ask("DELETE", "/images/voluminous").status, 200);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_a_name_goes_with_its_container_if_that_is_asked_for() {
    let Some(stage) = Stage::set("docker_anonymous").await else {
        return;
    };
    load(&stage);
    let docker = Docker::serve(&stage);
    let body = json!({ "Image": "voluminous", "Cmd": ["true"], "Volumes": { "/more": {}, "/tmp/bound": {} },
                       "HostConfig": { "Binds": [format!("{}:/tmp/bound", stage.real.dir().display())] } });
    docker.create("left", body.clone());
    let shown = mounts(&docker, "left");
    let of_kind = |kind: &str| shown.iter().filter(|mount| mount["Type"] == kind).count();
    assert_eq!((of_kind("volume"), of_kind("bind")), (2, 1), "{shown:?}");
    let own = names(&docker);
    assert!(
        own.len() == 2 && own.iter().all(|name| name.len() == 64),
        "{own:?}"
    );
    assert_eq!(
        volume(&docker, &own[0])["Labels"],
        json!({ "com.docker.volume.anonymous": "" })
    );
    // Lent to another container, which keeps them alive.
    let mut lent = body.clone();
    lent["HostConfig"] = json!({ "VolumesFrom": ["left:ro"] });
    docker.create("borrower", lent);
    let borrowed = mounts(&docker, "borrower");
    assert_eq!(borrowed.len(), 3, "{borrowed:?}");
    assert!(borrowed.iter().all(|mount| mount["RW"] == false), "{borrowed:?}");
    docker.done("DELETE", "/containers/left?v=1");
    assert_eq!(names(&docker), own, "another container uses them");
    let said = docker
        .get("/volumes?filters=%7B%22dangling%22:[%22true%22]%7D")
        .json();
    assert_eq!(said["Volumes"], json!([]));
    docker.done("DELETE", "/containers/borrower?v=1");
    assert!(names(&docker).is_empty());
    // Without `v`, they stay until a prune.
    docker.create("left", body.clone());
    docker.done("DELETE", "/containers/left");
    assert_eq!(names(&docker).len(), 2);
    let said = docker.post("/volumes/create", &json!({ "Name": "named" }));
    assert_eq!(said.status, 201);
    let said = docker.post("/volumes/prune", &json!({})).json();
    assert_eq!(said["VolumesDeleted"].as_array().map(Vec::len), Some(2), "{said}");
    assert!(said["SpaceReclaimed"].as_u64().expect("a number") > 0, "{said}");
    assert_eq!(names(&docker), ["named"]);
    let said = docker
        .post("/volumes/prune?filters=%7B%22all%22:[%22true%22]%7D", &json!({}))
        .json();
    assert_eq!(said["VolumesDeleted"], json!(["named"]));
    // One that is removed at its end takes them along.
    let mut brief = body;
    brief["HostConfig"] = json!({ "AutoRemove": true });
    docker.create("brief", brief);
    docker.done("POST", "/containers/brief/start");
    crate::server::until("it and its volumes are gone", || {
        docker.get("/containers/brief/json").status == 404 && names(&docker).is_empty()
    })
    .await;
    assert_eq!(docker.ask("DELETE", "/images/voluminous").status, 200);
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_volume_is_refused_by_name_and_a_create_that_fails_leaves_none() {
    let Some(stage) = Stage::set("docker_bad_volumes").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let at = stage.real.dir().join("device");
    std::fs::create_dir(&at).expect("a directory");
    for (body, status, says) in [
        (
            json!({ "Name": "pv", "Driver": "nfs" }),
            404,
            "plugin \"nfs\" not found",
        ),
        (
            json!({ "Name": "pv", "DriverOpts": { "type": "tmpfs", "device": "tmpfs" } }),
            400,
            "device=tmpfs type=tmpfs ask for a mount that fnctr does not make",
        ),
        (json!({ "Name": "../up" }), 400, "includes invalid characters"),
    ] {
        let said = docker.post("/volumes/create", &body);
        assert_eq!(said.status, status, "{said:?}");
        assert!(said.message().contains(says), "{said:?}");
    }
    for (host, says) in [
        (
            json!({ "Binds": ["a b:/d"] }),
            "create a b: \"a b\" includes invalid",
        ),
        (
            json!({ "Binds": ["data:/d", "other:/d/"] }),
            "Duplicate mount point: /d/",
        ),
        // Only seen when the volume is there.
        (
            json!({ "Binds": ["data:/bin/busybox"] }),
            "\"/bin/busybox\" in image",
        ),
        (json!({ "VolumesFrom": ["nosuch"] }), "No such container: nosuch"),
        (
            json!({ "Mounts": [{ "Type": "volume", "Source": "data", "Target": "/d", "VolumeOptions": { "Subpath": "x" } }] }),
            "Subpath",
        ),
    ] {
        let mut host = host;
        host["NetworkMode"] = json!("none");
        let body = json!({ "Image": "busybox", "HostConfig": host });
        let said = docker.post("/containers/create", &body);
        assert_eq!(said.status, 400, "{said:?}");
        assert!(said.message().contains(says), "{said:?}");
        assert!(names(&docker).is_empty(), "{says}");
    }
    // A directory of the host as a volume, whose removal leaves the files.
    let options = json!({ "type": "none", "o": "bind", "device": at });
    let said = docker.post(
        "/volumes/create",
        &json!({ "Name": "device", "DriverOpts": options }),
    );
    assert_eq!(
        (said.status, &said.json()["Options"]),
        (201, &options),
        "{said:?}"
    );
    docker.create(
        "box",
        json!({ "Cmd": ["sh", "-c", "echo here >/d/f"], "HostConfig": { "Binds": ["device:/d"] } }),
    );
    docker.done("POST", "/containers/box/start");
    assert_eq!(
        docker.post("/containers/box/wait", &json!({})).json()["StatusCode"],
        0
    );
    docker.done("DELETE", "/containers/box");
    docker.done("DELETE", "/volumes/device");
    assert_eq!(std::fs::read(at.join("f")).expect("a file"), b"here\n");
    std::fs::remove_dir_all(&at).expect("to be removed");
    docker.end();
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_shares_volumes_with_the_api() {
    let Some(stage) = Stage::set("volume_command").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let run = |args: &[&str]| {
        let done = fnctr(&stage, args).output().expect("to run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let said = run(&["volume", "create", "--label", "team=red", "data"]);
    assert_eq!((said.0, said.1.as_str()), (Some(0), "data\n"), "{said:?}");
    assert_eq!(volume(&docker, "data")["Labels"], json!({ "team": "red" }));
    let said = run(&[
        "run",
        "--rm",
        "-u",
        "0:0",
        "-v",
        "data:/d",
        "-v",
        "/own",
        "busybox",
        "sh",
        "-c",
        "echo text >/d/f; touch /own/f && echo done",
    ]);
    assert_eq!((said.0, said.1.as_str()), (Some(0), "done\n"), "{said:?}");
    assert_eq!(names(&docker), ["data"], "the one without a name went");
    let said = run(&[
        "create",
        "--name",
        "job",
        "-v",
        "data:/d:ro",
        "-v",
        "/own",
        "busybox",
        "cat",
        "/d/f",
    ]);
    assert_eq!(said.0, Some(0), "{said:?}");
    let said = run(&["start", "-a", "job"]);
    assert_eq!((said.0, said.1.as_str()), (Some(0), "text\n"), "{said:?}");
    let said = run(&["volume", "rm", "data"]);
    assert_eq!(said.0, Some(1), "{said:?}");
    assert!(
        said.2.contains("cannot remove volume data: it is used by job"),
        "{said:?}"
    );
    let said = run(&["volume", "ls", "--filter", "dangling=false"]);
    assert!(
        said.1.contains("VOLUME") && said.1.contains("data") && said.1.contains("job"),
        "{said:?}"
    );
    // A snapshot of its files, through the container that does not run.
    let said = run(&["cp", "job:/d/f", "-"]);
    assert!(said.0 == Some(0) && said.1.contains("text"), "{said:?}");
    assert_eq!(run(&["rm", "-v", "job"]).0, Some(0));
    assert_eq!(names(&docker), ["data"]);
    let said = run(&["volume", "inspect", "data"]);
    assert!(said.1.contains("\"used_by\": []"), "{said:?}");
    let said = run(&["volume", "prune", "--all", "--force"]);
    assert!(
        said.0 == Some(0) && said.1.starts_with("data\nfreed "),
        "{said:?}"
    );
    docker.end();
    stage.strike().await;
}
