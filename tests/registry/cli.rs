//! `fnctr pull` and `fnctr run --pull` from outside.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::registry::{Image, Kind, Packed, Registry};
use crate::rig::Rig;

pub(crate) fn fnctr(rig: &Rig, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fnctr"));
    command
        .arg("--address")
        .arg(rig.real.address())
        .args(["--namespace", rig.real.namespace()])
        .args(["--cgroup-parent", "/"])
        .arg("--root")
        .arg(rig.real.dir().join("cli"))
        .arg("--hosts-dir")
        .arg(rig.real.dir().join("certs.d"))
        .args(args)
        .env_remove("FN_DOCKER_AUTH")
        .env("DOCKER_CONFIG", rig.real.dir().join("docker"))
        .stdin(Stdio::null());
    command
}

pub(crate) fn run(rig: &Rig, args: &[&str]) -> (i32, String, String) {
    told(fnctr(rig, args).output().expect("to run fnctr"))
}

fn told(done: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (
        done.status.code().unwrap_or(-1),
        text(done.stdout),
        text(done.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_says_what_it_does_in_the_form_that_is_wanted() {
    let Some(rig) = Rig::set("pull_says_what_it_does").await else {
        return;
    };
    let digest = rig
        .registry
        .push("cli", "1", &Image::busybox(Packed::OciGzip, "cli", &[100_000]));
    let name = rig.name("cli:1");
    let result = format!("{name} {digest}\n");
    let (code, out, err) = run(&rig, &["pull", &name]);
    assert_eq!((code, &out), (0, &result), "{err}");
    assert_eq!(err.matches(": done (").count(), 2, "{err}");
    let (code, out, err) = run(&rig, &["pull", "--quiet", &name]);
    assert_eq!((code, &out, err.as_str()), (0, &result, ""));
    rig.remove(&name);
    let (code, out, err) = run(&rig, &["--json", "pull", &name]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["image"], &last["digest"]),
        (&name.clone().into(), &digest.clone().into())
    );
    let done = lines.iter().filter(|line| line["state"] == "done").count();
    assert_eq!(done, 2, "{out}");
    for (args, sentence) in [
        (vec!["pull", "a:b:c"], "is not an image name"),
        (
            vec!["pull", "--platform", "linux", &name],
            "\"linux\" is not a platform",
        ),
        (vec!["pull", "--username", "bob", &name], "--password-stdin"),
    ] {
        let (code, _, err) = run(&rig, &args);
        assert!(code != 0 && err.contains(sentence), "{args:?}: {err}");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_platform_is_pulled_when_it_is_asked_for() {
    let Some(rig) = Rig::set("another_platform_is_pulled").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "arm", &[]).of("linux", "arm", Some("v6"));
    rig.registry.push("arm", "1", &image);
    let name = rig.name("arm:1");
    let (code, _, err) = run(&rig, &["pull", &name]);
    assert!(code == 1 && err.contains("only for linux/arm/v6"), "{err}");
    // A v7 runs what is made for a v6; a v5 does not.
    let (code, _, err) = run(&rig, &["pull", "--platform", "linux/arm/v5", &name]);
    assert!(
        code == 1 && err.contains("no variant for linux/arm/v5, only for linux/arm/v6"),
        "{err}"
    );
    let (code, _, err) = run(&rig, &["pull", "--platform", "linux/arm/v7", &name]);
    assert_eq!(code, 0, "{err}");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn run_pulls_as_it_is_told() {
    let Some(rig) = Rig::set("run_pulls_as_it_is_told").await else {
        return;
    };
    let push = |salt: &str| {
        rig.registry
            .push("run", "1", &Image::busybox(Packed::OciGzip, salt, &[10]))
    };
    push("old");
    let name = rig.name("run:1");
    let cat = |when: &str| run(&rig, &["run", "--pull", when, &name, "cat", "/etc/salt"]);
    let (code, out, err) = cat("never");
    assert_eq!((code, out.as_str()), (125, ""));
    assert!(err.contains(&name) && err.contains("--pull never"), "{err}");
    let (code, out, err) = run(&rig, &["run", &name, "cat", "/etc/salt"]);
    assert_eq!((code, out.as_str()), (0, "old"), "{err}");
    assert_eq!(rig.proxy.count("GET", "/manifests/"), 1);
    push("new");
    rig.proxy.reset();
    assert_eq!(cat("missing").1, "old");
    assert_eq!(cat("never").1, "old");
    assert_eq!(rig.proxy.seen(), []);
    assert_eq!(cat("always").1, "new");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_environment_a_helper_or_standard_input() {
    let push = |registry: &Registry| {
        registry.push("private", "1", &Image::busybox(Packed::OciGzip, "private", &[10]));
        Some(Kind {
            login: true,
            ..Kind::default()
        })
    };
    let Some(rig) = Rig::with("credentials_come_from", push, |_| {}).await else {
        return;
    };
    let name = rig.name("private:1");
    let address = rig.proxy.address();
    let (code, _, err) = run(&rig, &["pull", &name]);
    assert!(
        code == 1 && err.contains("wants credentials, and there are none"),
        "{err}"
    );
    let pulled = |(code, out, err): (i32, String, String)| {
        assert_eq!(code, 0, "{out}{err}");
        assert!(!format!("{out}{err}").contains("hunter2"));
        rig.remove(&name);
    };
    // The environment.
    let auth = format!(r#"{{"auths": {{"{address}": {{"username": "bob", "password": "hunter2"}}}}}}"#);
    let mut command = fnctr(&rig, &["pull", &name]);
    pulled(told(
        command.env("FN_DOCKER_AUTH", &auth).output().expect("to run"),
    ));
    let mut command = fnctr(&rig, &["pull", &name]);
    let (code, _, err) = told(
        command
            .env("FN_DOCKER_AUTH", "{hunter2")
            .output()
            .expect("to run"),
    );
    assert!(
        code == 1 && err.contains("is not a docker configuration") && !err.contains("hunter2"),
        "{err}"
    );
    // Standard input.
    let mut child = fnctr(&rig, &["pull", "--username", "bob", "--password-stdin", &name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("to run");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"hunter2\n").expect("to write");
    drop(stdin);
    pulled(told(child.wait_with_output().expect("to end")));
    // A helper, named in the configuration file.
    let docker = rig.real.dir().join("docker");
    let bin = rig.real.dir().join("bin");
    fs::create_dir_all(&docker).expect("a directory");
    fs::create_dir_all(&bin).expect("a directory");
    let helper = bin.join("docker-credential-test");
    let script = "#!/bin/sh\n[ \"$1\" = get ] || exit 2\nread -r server\ncase $server in\n\
        HOST) echo '{\"ServerURL\":\"x\",\"Username\":\"bob\",\"Secret\":\"hunter2\"}' ;;\n\
        *) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
    fs::write(&helper, script.replace("HOST", &address)).expect("a script");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("to make it executable");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let with_helper = |config: &str| {
        fs::write(docker.join("config.json"), config).expect("a file");
        let mut command = fnctr(&rig, &["pull", &name]);
        told(command.env("PATH", &path).output().expect("to run"))
    };
    pulled(with_helper(r#"{"credsStore": "test"}"#));
    pulled(with_helper(&format!(
        r#"{{"credHelpers": {{"{address}": "test"}}}}"#
    )));
    let (code, _, err) = with_helper(r#"{"credHelpers": {"other.io": "test"}}"#);
    assert!(code == 1 && err.contains("there are none"), "{err}");
    let (code, _, err) = with_helper(r#"{"credsStore": "../../bin/sh"}"#);
    assert!(
        code == 1 && err.contains("cannot be a credential helper"),
        "{err}"
    );
    let (code, _, err) = with_helper(r#"{"credsStore": "absent"}"#);
    assert!(
        code == 1 && err.contains("docker-credential-absent cannot be run"),
        "{err}"
    );
    fs::write(&helper, "#!/bin/sh\necho 'vault is sealed'; exit 1\n").expect("a script");
    let (code, _, err) = with_helper(r#"{"credsStore": "test"}"#);
    assert!(
        code == 1 && err.contains("docker-credential-test failed for") && err.contains("vault is sealed"),
        "{err}"
    );
    rig.strike().await;
}
