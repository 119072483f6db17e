//! Images that are here: listed with their true sizes, named, saved, removed. Through the command, as people do it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cli::{fnctr, run};
use crate::proxy::Fate;
use crate::registry::{Image, Packed};
use crate::rig::{Rig, ctx};

/// Two images with a common layer, and one of their own each.
async fn two(rig: &Rig) -> [String; 2] {
    let mut names = Vec::new();
    for (repository, size) in [("one", 400_000), ("two", 900_000)] {
        let mut image = Image::busybox(Packed::OciGzip, "common", &[]);
        let own = Image::busybox(Packed::OciGzip, repository, &[size]);
        image.layers.extend(own.layers.into_iter().skip(1));
        image.config["config"]["Env"] = serde_json::json!([format!("NAME={repository}")]);
        rig.registry.push(repository, "1", &image);
        let name = rig.name(&format!("{repository}:1"));
        rig.pull(&name).await.expect("to pull");
        names.push(name);
    }
    names.try_into().expect("two")
}

#[track_caller]
fn ok(rig: &Rig, args: &[&str]) -> String {
    let (code, out, err) = run(rig, args);
    assert_eq!(code, 0, "{args:?}: {out}{err}");
    out
}

#[track_caller]
fn refused(rig: &Rig, args: &[&str], says: &str) {
    let (code, out, err) = run(rig, args);
    assert!(code != 0 && err.contains(says), "{args:?}: {code} {out}{err}");
}

#[track_caller]
fn json(rig: &Rig, args: &[&str]) -> Value {
    let text = ok(rig, args);
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn id_of(rig: &Rig, name: &str) -> String {
    let id = json(rig, &["image", "inspect", name])[0]["id"].clone();
    id.as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_and_inspected_with_what_they_occupy_and_what_their_removal_frees() {
    let Some(rig) = Rig::set("images_are_listed_and_inspected").await else {
        return;
    };
    let empty = rig.world();
    let [one, two] = two(&rig).await;
    let all = json(&rig, &["image", "inspect", &one, &two]);
    let number = |at: usize, field: &str| all[at][field].as_u64().expect(field);
    // One's own layer is noise, which packs to no less than it is; the layer below is shared.
    for (at, own) in [(0, 400_000), (1, 900_000)] {
        let frees = number(at, "frees");
        assert!((2 * own..2 * own + 40_000).contains(&frees), "{at}: {frees}");
        assert!(number(at, "size") > own + 500_000, "{all}");
        assert!(number(at, "content_size") > own, "{all}");
        assert_eq!(all[at]["layers"].as_array().map(Vec::len), Some(2));
    }
    assert_eq!(all[0]["config"]["env"][0], "NAME=one");
    assert_eq!(all[1]["config"]["cmd"][0], "/bin/true");
    assert_eq!(all[0]["names"][0].as_str(), Some(one.as_str()));
    let table = ok(&rig, &["images"]);
    let id = id_of(&rig, &one);
    let short = &id["sha256:".len()..][..12];
    let row = table.lines().find(|line| line.starts_with(&one)).expect("a row");
    assert!(
        table.starts_with("IMAGE ") && row.contains(short) && row.ends_with("MB"),
        "{table}"
    );
    assert_eq!(ok(&rig, &["images", "--quiet"]).lines().count(), 2);
    refused(
        &rig,
        &["image", "inspect", "no/body"],
        "there is no image no/body",
    );
    // As much is freed as was said, and what is shared goes with the last.
    let gone = json(&rig, &["--json", "rmi", &one]);
    assert_eq!(gone["freed"].as_u64(), Some(number(0, "frees")));
    assert_eq!(rig.cat(&two, "/etc/salt").await, "common");
    let pruned = json(&rig, &["--json", "image", "prune", "--all", "--force"]);
    assert_eq!(pruned["untagged"][0].as_str(), Some(two.as_str()));
    assert!(pruned["freed"].as_u64() > Some(number(1, "frees")), "{pruned}");
    rig.settles(&empty, "all are removed");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_has_as_many_names_as_are_given_to_it_and_goes_with_the_last() {
    let Some(rig) = Rig::set("an_image_has_as_many_names").await else {
        return;
    };
    let empty = rig.world();
    let [one, two] = two(&rig).await;
    assert_eq!(
        ok(&rig, &["tag", &one, "mine"]),
        "docker.io/library/mine:latest\n"
    );
    let id = id_of(&rig, &one);
    let hex = &id["sha256:".len()..];
    ok(&rig, &["tag", &hex[..12], "r.corp:5000/mine:2"]);
    assert_eq!(id_of(&rig, "r.corp:5000/mine:2"), id);
    refused(&rig, &["tag", &one, "upper/CASE"], "upper/CASE");
    refused(&rig, &["tag", "no/body", "x"], "there is no image no/body");
    refused(&rig, &["tag", &one, &format!("x@{id}")], "has a digest");
    refused(&rig, &["rmi", hex], "has several names");
    let full = rig.world();
    assert_eq!(ok(&rig, &["rmi", &one]), format!("untagged {one}\n"));
    assert_eq!(rig.world(), full, "it has two more names");
    assert_eq!(rig.cat("mine", "/etc/salt").await, "common");
    let out = ok(&rig, &["rmi", "--force", &id]);
    assert_eq!(
        out.lines().filter(|line| line.starts_with("untagged ")).count(),
        2,
        "{out}"
    );
    assert!(out.ends_with(&format!("deleted {id}\n")), "{out}");
    // Two at once, of which one is not there: the other goes all the same.
    let (code, out, err) = run(&rig, &["rmi", "no/body", &two]);
    assert_eq!(code, 1);
    assert!(out.contains(&two) && err.contains("no/body"), "{out}{err}");
    rig.settles(&empty, "all names are gone");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_a_container_uses_goes_only_by_force_and_the_container_goes_on() {
    let Some(rig) = Rig::set("an_image_that_a_container_uses").await else {
        return;
    };
    let empty = rig.world();
    let [one, two] = two(&rig).await;
    let cookie = rig.cookie(&one).await;
    assert!(!cookie.validate_image(&ctx()).await.expect("to validate"));
    cookie.create_container(&ctx()).await.expect("to create");
    refused(&rig, &["rmi", &one], "is used by container");
    let pruned = json(&rig, &["--json", "image", "prune", "--all", "--force"]);
    assert_eq!(pruned["untagged"], serde_json::json!([two]));
    // With another name it loses one.
    ok(&rig, &["tag", &one, "kept"]);
    ok(&rig, &["rmi", "kept"]);
    ok(&rig, &["rmi", "--force", &one]);
    let result = cookie.run(&ctx()).await.expect("to run").wait(&ctx()).await;
    assert_eq!(result.exit_code(), Some(0), "{result:?}");
    cookie.close(&ctx()).await.expect("to close");
    ok(&rig, &["image", "prune", "--all", "--force"]);
    // Its snapshots go with the next collection after the container's own.
    rig.collect();
    rig.settles(&empty, "the container was the last to use them");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_loaded_again_as_the_same_image_through_files_and_pipes() {
    let Some(rig) = Rig::set("what_is_saved_is_loaded_again").await else {
        return;
    };
    let empty = rig.world();
    let [one, two] = two(&rig).await;
    let ids = [id_of(&rig, &one), id_of(&rig, &two)];
    for format in ["docker", "oci"] {
        let archive = rig.real.dir().join(format!("{format}.tar"));
        let path = archive.display().to_string();
        ok(&rig, &["save", "--format", format, "--output", &path, &one, &two]);
        let blobs = entries(&archive);
        let mut once = blobs.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), blobs.len(), "each blob once: {blobs:?}");
        // Two manifests, two configurations, one common layer and two others.
        assert_eq!(
            blobs.iter().filter(|name| name.starts_with("blobs/")).count(),
            7,
            "{blobs:?}"
        );
        assert_eq!(
            blobs.iter().any(|name| name == "manifest.json"),
            format == "docker"
        );
        others_read_it(&rig, &path, format, &one);
        ok(&rig, &["rmi", &one, &two]);
        rig.settles(&empty, format);
        let loading = fnctr(&rig, &["load"])
            .stdin(File::open(&archive).expect("the archive"))
            .output()
            .expect("to load");
        assert!(loading.status.success(), "{loading:?}");
        assert_eq!([id_of(&rig, &one), id_of(&rig, &two)], ids, "{format}");
        assert_eq!(rig.cat(&two, "/etc/salt").await, "common");
        fs::remove_file(&archive).expect("to remove it");
    }
    // Through a pipe, by its id, which leaves it without a name.
    let piped = Command::new("sh")
        .args(["-c", r#""$0" "$@" | cat >"$OUT""#])
        .arg(env!("CARGO_BIN_EXE_fnctr"))
        .args(fnctr(&rig, &["save", &ids[0]]).get_args())
        .env("OUT", rig.real.dir().join("piped.tar"))
        .stdin(Stdio::null())
        .status()
        .expect("a shell");
    assert!(piped.success());
    let piped = rig.real.dir().join("piped.tar");
    let path = piped.display().to_string();
    // It is here by its name, so it needs no other; without one it is kept all the same.
    assert_eq!(ok(&rig, &["load", &path]), format!("loaded {}\n", ids[0]));
    assert_eq!(ok(&rig, &["images"]).lines().count(), 3);
    ok(&rig, &["rmi", &one]);
    let json_of = |out: &str| -> Value { serde_json::from_str(out).expect("JSON") };
    let loaded = json_of(&ok(&rig, &["--json", "load", &path]));
    assert_eq!(
        loaded,
        serde_json::json!({"image": null, "id": ids[0], "loaded": true})
    );
    let table = ok(&rig, &["images"]);
    let unnamed = table
        .lines()
        .find(|line| line.starts_with("<none> "))
        .expect("a row");
    assert!(unnamed.contains(&ids[0]["sha256:".len()..][..12]), "{table}");
    ok(&rig, &["tag", &ids[0], &one]);
    assert!(!ok(&rig, &["images"]).contains("<none>"));
    assert_eq!(rig.cat(&one, "/etc/salt").await, "common");
    refused(
        &rig,
        &["save", "--output", &path, "no/body"],
        "there is no image no/body",
    );
    assert!(
        piped.exists(),
        "what was there before is not touched by a failure"
    );
    let bad = fnctr(&rig, &["load", "-"])
        .stdin(File::open("/etc/passwd").expect("a file"))
        .output()
        .expect("to load");
    let said = String::from_utf8_lossy(&bad.stderr);
    assert!(
        !bad.status.success() && said.contains("standard input is not an image archive"),
        "{said}"
    );
    fs::remove_file(&piped).expect("to remove it");
    ok(&rig, &["image", "prune", "--all", "--force"]);
    rig.settles(&empty, "all of it");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_image_lacks_is_fetched_when_it_is_saved_or_named_if_nobody_is_known_to_have_it() {
    let Some(rig) = Rig::set("what_an_image_lacks").await else {
        return;
    };
    // Two images of the same layers, packed in two ways: of the second, nothing but documents has to come.
    let mut image = Image::busybox(Packed::OciGzip, "twice", &[300_000]);
    rig.registry.push("first", "1", &image);
    image.packed = Packed::OciZstd;
    image.config["config"]["Env"] = serde_json::json!(["SECOND=1"]);
    rig.registry.push("second", "1", &image);
    let [first, second] = ["first:1", "second:1"].map(|name| rig.name(name));
    rig.pull(&first).await.expect("to pull");
    rig.proxy.reset();
    rig.pull(&second).await.expect("to pull");
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 1, "its configuration");
    let layers = json(&rig, &["image", "inspect", &second])[0]["layers"].clone();
    let layers: Vec<_> = layers
        .as_array()
        .expect("layers")
        .iter()
        .map(|one| one.as_str().expect("a digest").to_owned())
        .collect();
    let archive = rig.real.dir().join("second.tar");
    let path = archive.display().to_string();
    // While its registry cannot be reached, that is the reason.
    rig.proxy.break_next(
        usize::MAX,
        |_| true,
        Fate::status("503 Service Unavailable", &[], "closed for lunch"),
    );
    let why = format!(
        "its layer {}, layer {} are not here, and cannot be fetched: registry ",
        layers[0], layers[1]
    );
    refused(&rig, &["save", "--output", &path, &second], &why);
    refused(&rig, &["save", "--output", &path, &second], "closed for lunch");
    assert!(!archive.exists());
    rig.proxy.reset();
    let before = rig.world();
    ok(&rig, &["save", "--format", "oci", "--output", &path, &second]);
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 2);
    let blobs = entries(&archive);
    for layer in &layers {
        assert!(
            blobs.contains(&layer.replace("sha256:", "blobs/sha256/")),
            "{blobs:?}"
        );
    }
    // They are the image's from then on.
    rig.collect();
    assert_eq!(rig.world().blobs.len(), before.blobs.len() + 2);
    ok(&rig, &["save", "--output", &path, &second]);
    assert_eq!(rig.proxy.count("GET", "/blobs/"), 2, "not twice");
    // By its id, too.
    let id = id_of(&rig, &second);
    let gone = |digest: &str| assert!(rig.ctr(&["content", "rm", digest]).0, "{digest}");
    gone(&layers[1]);
    gone(&layers[0]);
    ok(&rig, &["save", "--output", &path, &id]);
    // An image that came as a file is from nowhere, until it is pulled.
    ok(&rig, &["rmi", &first, &second]);
    ok(&rig, &["load", &path]);
    ok(&rig, &["tag", &id, &second]);
    let layers = json(&rig, &["image", "inspect", &second])[0]["layers"].clone();
    let layer = layers[1].as_str().expect("a layer").to_owned();
    gone(&layer);
    let why =
        format!("its layer {layer} is not here, and no registry is known to have it: pull the image first");
    refused(&rig, &["save", "--output", &path, &second], &why);
    assert_eq!(rig.cat(&second, "/etc/salt").await, "twice", "it runs without");
    ok(&rig, &["pull", &second]);
    ok(&rig, &["save", "--output", &path, &second]);
    fs::remove_file(&archive).expect("to remove it");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_loaded_is_named_with_what_would_do() {
    let Some(rig) = Rig::set("what_cannot_be_loaded").await else {
        return;
    };
    let [one, _] = two(&rig).await;
    let dir = rig.real.dir();
    let archive = dir.join("a.tar").display().to_string();
    ok(&rig, &["save", "--output", &archive, &one]);
    ok(&rig, &["image", "prune", "--all", "--force"]);
    let packed = |program: &str, file: &str| {
        let line = format!("{program} -c '{archive}' >'{}'", dir.join(file).display());
        let done = Command::new("sh").args(["-c", &line]).status().expect("a shell");
        done.success().then(|| dir.join(file).display().to_string())
    };
    for (program, file) in [("xz", "a.tar.xz"), ("bzip2", "a.tar.bz2")] {
        let Some(path) = packed(program, file) else {
            crate::real::tell(&format!(
                "SKIPPED an archive of {program}, which is not installed"
            ));
            continue;
        };
        let why = format!(
            "{path} is compressed with {program}, which is not understood; `{program} -dc FILE | fnctr load` loads it"
        );
        refused(&rig, &["load", &path], &why);
        let loading = format!(r#"{program} -dc '{path}' | "$0" "$@""#);
        let loaded = Command::new("sh")
            .args(["-c", &loading])
            .arg(env!("CARGO_BIN_EXE_fnctr"))
            .args(fnctr(&rig, &["load"]).get_args())
            .output()
            .expect("a shell");
        assert!(loaded.status.success(), "{loaded:?}");
        ok(&rig, &["rmi", &one]);
    }
    // What is read as it is, whatever it is called.
    for (program, file) in [("gzip", "a.tar"), ("zstd -q", "a.tgz")] {
        let path = packed(program, &format!("packed-{file}")).expect("it is among what tests need");
        assert_eq!(ok(&rig, &["load", &path]), format!("loaded {one}\n"));
        assert_eq!(rig.cat(&one, "/etc/salt").await, "common");
        ok(&rig, &["rmi", &one]);
    }
    rig.strike().await;
}

fn entries(archive: &Path) -> Vec<String> {
    let listed = Command::new("tar").arg("-tf").arg(archive).output().expect("tar");
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// containerd's own client, and skopeo where it is installed.
fn others_read_it(rig: &Rig, path: &str, format: &str, name: &str) {
    let before = rig.world();
    let (imported, said) = rig.ctr(&["images", "import", "--no-unpack", path]);
    assert!(imported, "{said}");
    // It keeps the archive's own index as a blob, and knows all the rest already.
    let now = rig.world().blobs;
    assert!(
        now.is_superset(&before.blobs) && now.len() <= before.blobs.len() + 1,
        "{now:?}"
    );
    let transport = if format == "docker" {
        "docker-archive"
    } else {
        "oci-archive"
    };
    let source = match format {
        "docker" => format!("{transport}:{path}:{name}"),
        _ => format!("{transport}:{path}"),
    };
    // An archive with several images is asked for one by name, which skopeo can in Docker's form alone.
    if format != "docker" {
        return;
    }
    match Command::new("skopeo")
        .args(["inspect", "--config", &source])
        .output()
    {
        Err(why) => crate::real::tell(&format!("SKIPPED what skopeo says of an archive: {why}")),
        Ok(inspected) => {
            let said = String::from_utf8_lossy(&inspected.stdout).into_owned();
            assert!(
                inspected.status.success() && said.contains("NAME=one"),
                "{inspected:?}"
            );
        }
    }
}
