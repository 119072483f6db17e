//! What each page answers, and what is refused.

use serde_json::{Value, json};

use super::wire::{Docker, with_body};
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn versions_pages_and_bodies_are_answered_or_refused_as_docker_does() {
    let Some(stage) = Stage::set("docker_pages").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let said = docker.get("/_ping");
    assert_eq!((said.status, said.text().as_str()), (200, "OK"));
    for header in [
        "Api-Version: 1.51",
        "Ostype: linux",
        "Docker-Experimental: false",
        "Builder-Version: 1",
    ] {
        assert!(said.head.contains(header), "{header}: {}", said.head);
    }
    let said = docker.ask("HEAD", "/v1.24/_ping");
    assert_eq!((said.status, said.body.as_slice()), (200, &[][..]));
    let version = docker.get("/version").json();
    assert_eq!(
        (&version["ApiVersion"], &version["MinAPIVersion"]),
        (&json!("1.51"), &json!("1.24"))
    );
    assert!(
        version["Version"].as_str().unwrap().starts_with("28."),
        "{version}"
    );
    let info = docker.get("/v1.41/info").json();
    assert_eq!((&info["Containers"], &info["Images"]), (&json!(0), &json!(1)));
    for (request, status, says) in [
        (
            "GET /v1.99/info",
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        ("GET /nosuch", 404, "page not found"),
        ("PUT /containers/json", 404, "page not found"),
        ("GET /containers/nosuch/json", 404, "No such container: nosuch"),
        ("POST /containers/nosuch/start", 404, "No such container: nosuch"),
        (
            "POST /containers/nosuch/kill",
            404,
            "cannot kill container: nosuch: No such container: nosuch",
        ),
        (
            "POST /containers/nosuch/rename?name=x",
            404,
            "No such container: nosuch",
        ),
        ("GET /exec/nosuch/json", 404, "No such exec instance: nosuch"),
        ("GET /images/nosuch/json", 404, "No such image: nosuch:latest"),
        ("GET /networks/nosuch", 404, "network nosuch not found"),
        ("GET /swarm", 503, "This node is not a swarm manager"),
        ("POST /build", 501, "building images"),
        ("GET /containers/json?filters=%7B", 400, "invalid filter"),
        (
            "GET /containers/json?filters=%7B%22foo%22:%5B%22x%22%5D%7D",
            400,
            "invalid filter 'foo'",
        ),
        (
            "GET /containers/json?filters=%7B%22before%22:%5B%22x%22%5D%7D",
            404,
            "No such container: x",
        ),
        ("POST /images/busybox/tag?repo=UP", 400, "must be lowercase"),
    ] {
        let (method, path) = request.split_once(' ').unwrap();
        let said = docker.ask(method, path);
        assert_eq!(said.status, status, "{request}: {said:?}");
        assert!(said.message().contains(says), "{request}: {}", said.message());
    }
    let said = docker.get("/v1.23/info");
    assert_eq!(
        (
            said.status,
            said.text().contains("client version 1.23 is too old")
        ),
        (400, true),
        "{said:?}"
    );
    assert_eq!(docker.get("//containers//json").status, 301);
    for (body, status, says) in [
        ("", 400, "got EOF while reading request body"),
        ("null", 400, "config cannot be empty"),
        ("{}", 400, "config cannot be empty"),
        (
            r#"{"Image":1}"#,
            400,
            "cannot unmarshal number into Go struct field .Image of type string",
        ),
        (r#"{"Image":"busybox"}{}"#, 400, "unexpected content after JSON"),
        (r#"{"Image":"nope:1"}"#, 404, "No such image: nope:1"),
        (r#"{"Image":"UP"}"#, 400, "must be lowercase"),
        (
            r#"{"Image":"busybox","HostConfig":{"Privileged":true}}"#,
            400,
            "HostConfig.Privileged is not served",
        ),
    ] {
        let said = docker.raw(&with_body("/containers/create", body));
        assert_eq!(said.status, status, "{body}: {said:?}");
        assert!(said.message().contains(says), "{body}: {}", said.message());
    }
    let said = docker.post(
        "/containers/create?name=a%20b",
        &json!({ "Image": "busybox", "Cmd": "x".repeat(100_000) }),
    );
    assert_eq!(
        (
            said.status,
            said.message().contains("Invalid container name (a b)")
        ),
        (400, true)
    );
    let typed = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    assert!(
        docker
            .raw(typed)
            .message()
            .contains("unsupported Content-Type header (text/plain)")
    );
    assert_eq!(docker.get("/containers/json?all=1").json(), json!([]));
    docker.end();
    // Made when networks were looked for.
    std::fs::remove_dir_all(stage.real.dir().join("cli/sandboxes")).expect("to remove it");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_listed_shown_named_saved_loaded_and_removed() {
    let Some(stage) = Stage::set("docker_images").await else {
        return;
    };
    let docker = Docker::serve(&stage);
    let image = docker.get("/images/busybox/json").json();
    let id = image["Id"].as_str().unwrap().to_owned();
    assert!(
        id.starts_with("sha256:") && image["RepoTags"] == json!(["busybox:latest"]),
        "{image}"
    );
    for name in ["docker.io/library/busybox:latest", &id, &id[7..19]] {
        assert_eq!(
            docker.get(&format!("/images/{name}/json")).json()["Id"],
            image["Id"],
            "{name}"
        );
    }
    assert_eq!(
        docker
            .ask("POST", "/images/busybox/tag?repo=other/name&tag=v1")
            .status,
        201
    );
    let listed = docker.get("/images/json").json();
    assert_eq!(
        listed[0]["RepoTags"],
        json!(["busybox:latest", "other/name:v1"]),
        "{listed}"
    );
    let filters = "filters=%7B%22reference%22:%7B%22other/*%22:true%7D%7D";
    let listed = docker.get(&format!("/images/json?{filters}")).json();
    assert_eq!(listed[0]["RepoTags"], json!(["other/name:v1"]), "{listed}");
    for (name, value, status, count) in [
        ("until", "1h", 200, Some(1)),
        ("until", "0", 200, Some(0)),
        ("before", "busybox", 200, Some(0)),
        ("since", "busybox", 200, Some(0)),
        ("before", "nobody", 404, None),
        ("until", "soon", 400, None),
    ] {
        let said = docker.get(&format!(
            "/images/json?filters=%7B%22{name}%22:%5B%22{value}%22%5D%7D"
        ));
        let listed = said.json().as_array().map(Vec::len);
        assert_eq!((said.status, listed), (status, count), "{name}={value}: {said:?}");
    }
    assert_eq!(docker.get("/images/busybox/history").json()[0]["Id"], image["Id"]);
    let archive = docker.get("/images/other/name:v1/get");
    assert_eq!(
        (archive.status, archive.head.contains("application/x-tar")),
        (200, true)
    );
    let said = docker.ask("DELETE", &format!("/images/{id}"));
    assert_eq!(
        (
            said.status,
            said.message().contains("is referenced in multiple repositories")
        ),
        (409, true)
    );
    let said = docker.ask("DELETE", "/images/other/name:v1");
    assert_eq!(said.json(), json!([{ "Untagged": "other/name:v1" }]));
    let length = archive.body.len();
    let head = format!(
        "POST /images/load?quiet=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: plain/text\r\nContent-Length: {length}\r\n\r\n"
    );
    let said = docker.raw(&[head.as_bytes(), &archive.body].concat());
    assert_eq!(
        said.text(),
        "{\"stream\":\"Loaded image: other/name:v1\\n\"}\r\n",
        "{said:?}"
    );
    docker.done("DELETE", "/images/other/name:v1");
    let said = docker.raw(
        &[
            &head.as_bytes()[..head.len() - 4 - length.to_string().len()],
            b"5\r\n\r\nhello",
        ]
        .concat(),
    );
    assert_eq!(said.status, 200);
    let last: Value = serde_json::from_str(said.text().trim()).unwrap();
    assert!(
        last["errorDetail"]["message"].is_string() && last["error"].is_string(),
        "{last}"
    );
    assert_eq!(
        docker.get("/images/other/name:v1/get").message(),
        "No such image: other/name:v1"
    );
    docker.end();
    stage.strike().await;
}
