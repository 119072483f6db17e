//! Mirrors, certificates and headers, as `hosts.toml` describes them.

use std::fs;

use fnctr::driver::ErrorKind;

use crate::proxy::{Fate, Proxy};
use crate::registry::{
    Image, Kind, Packed, Registry, authority, certificate, certificates, digest, out_of_date, signs_itself,
};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_asked_first_for_what_it_may_give_and_the_registry_for_the_rest() {
    let Some(rig) = Rig::set("a_mirror_is_asked_first").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "mirrored", &[1000, 2000]);
    rig.registry.push("a/b", "1", &image);
    // The mirror has all but one layer.
    let mirror = Registry::start();
    let (missing, _) = image.blobs().pop().expect("a layer");
    let manifest = image.manifest(|bytes| {
        if digest(bytes) != digest(&missing) {
            mirror.push_blob("a/b", bytes);
        }
    });
    let mirrored = Proxy::start(mirror.address()).await;
    let body = serde_json::to_vec(&manifest).expect("JSON");
    mirrored.plan(move |seen| {
        if seen.path.contains("/manifests/") {
            return Fate::Answer(
                "200 OK".into(),
                vec![("content-type".into(), image.kind().into())],
                body.clone(),
            );
        }
        Fate::Pass
    });
    rig.describe(
        "corp.test",
        &format!(
            "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n[host.\"http://{}\".header]\nx-who = \"me\"\n",
            rig.proxy.address(),
            mirrored.address(),
            mirrored.address()
        ),
    );
    rig.pull("corp.test/a/b:1").await.expect("to pull");
    // What a tag stands for is the registry's to say.
    assert_eq!(mirrored.count("HEAD", ""), 0);
    assert_eq!(rig.proxy.count("HEAD", "/manifests/1?ns=corp.test"), 1);
    assert_eq!(mirrored.count("GET", "/manifests/"), 1);
    // Of the blobs, only the one that the mirror lacks.
    assert_eq!(rig.proxy.count("GET", ""), 1);
    assert_eq!(rig.proxy.count("GET", &digest(&missing)), 1);
    assert!(
        mirrored
            .seen()
            .iter()
            .all(|seen| seen.header("x-who") == Some("me"))
    );
    assert!(rig.proxy.seen().iter().all(|seen| seen.header("x-who").is_none()));
    assert_eq!(rig.cat("corp.test/a/b:1", "/etc/salt").await, "mirrored");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_down_or_lies_costs_only_time() {
    let Some(rig) = Rig::set("a_mirror_that_is_down_or_lies").await else {
        return;
    };
    let image = Image::busybox(Packed::OciGzip, "lies", &[300_000]);
    rig.registry.push("a/b", "1", &image);
    let liar = Proxy::start(rig.registry.address()).await;
    liar.plan(|seen| {
        if seen.path.contains("/blobs/") {
            Fate::Lie
        } else {
            Fate::Pass
        }
    });
    rig.describe(
        "corp.test",
        &format!(
            "server = \"http://{}\"\n[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n",
            rig.proxy.address(),
            liar.address()
        ),
    );
    rig.pull("corp.test/a/b:1").await.expect("to pull");
    assert_eq!(rig.cat("corp.test/a/b:1", "/etc/salt").await, "lies");
    assert_eq!(liar.count("GET", "/blobs/"), 3);
    let metrics = rig.driver.metrics();
    for reason in ["registry_host", "transfer"] {
        let retried = format!("fnctr_retries_total{{reason=\"{reason}\"}} ");
        assert!(metrics.contains(&retried), "{metrics}");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_stalls_or_breaks_off_within_a_layer_is_passed_over() {
    let Some(rig) = Rig::set("a_mirror_that_stalls_or_breaks_off").await else {
        return;
    };
    for (salt, fate) in [
        ("stalls", Fate::Stall(0, std::time::Duration::from_secs(5))),
        ("breaks", Fate::Cut(0)),
        (
            "limits",
            Fate::status("429 Too Many Requests", &[("retry-after", "50")], ""),
        ),
    ] {
        let image = Image::busybox(Packed::OciGzip, salt, &[300_000]);
        rig.registry.push("a/b", salt, &image);
        let mirror = Proxy::start(rig.registry.address()).await;
        mirror.plan(move |seen| {
            if seen.path.contains("/blobs/") {
                fate.clone()
            } else {
                Fate::Pass
            }
        });
        rig.describe(
            "corp.test",
            &format!(
                "server = \"http://{}\"\n[host.\"http://{}\"]\n",
                rig.proxy.address(),
                mirror.address()
            ),
        );
        let name = format!("corp.test/a/b:{salt}");
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{salt}: {why:?}"));
        assert_eq!(rig.cat(&name, "/etc/salt").await, salt);
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_believed_where_a_file_says_so() {
    let made = tempfile::tempdir().expect("a directory");
    certificates(made.path(), &["server", "client"]);
    let at = |name: &str| made.path().join(name);
    let push = |registry: &Registry| {
        registry.push("tls", "1", &Image::busybox(Packed::OciGzip, "tls", &[10]));
        Some(Kind {
            tls: Some((at("server.pem"), at("server.key"))),
            client_ca: Some(at("ca.pem")),
            ..Kind::default()
        })
    };
    let Some(rig) = Rig::with("certificates_are_believed", push, |_| {}).await else {
        return;
    };
    let address = rig.registry.address();
    let name = format!("{address}/tls:1");
    for (how, toml, says) in [
        (
            "plain",
            format!("server = \"http://{address}\""),
            "HTTP request to an HTTPS server",
        ),
        (
            "nobody",
            format!("server = \"https://{address}\""),
            "UnknownIssuer",
        ),
        (
            "no certificate of ours",
            format!("server = \"https://{address}\"\nca = {:?}", at("ca.pem")),
            "received fatal alert",
        ),
        (
            "no such file",
            format!("server = \"https://{address}\"\nca = \"nowhere.pem\""),
            "nowhere.pem",
        ),
        (
            "no certificate in it",
            format!("server = \"https://{address}\"\nca = {:?}", at("names")),
            "names has no certificate",
        ),
        (
            "not understood",
            "server = [".to_owned(),
            "hosts.toml is not understood",
        ),
    ] {
        rig.describe(&address, &toml);
        let refused = rig.pull(&name).await.expect_err(how);
        assert!(refused.report().contains(says), "{how}: {}", refused.report());
        assert!(refused.report().contains(&name), "{how}: {}", refused.report());
    }
    for (how, toml) in [
        (
            "believed",
            format!(
                "ca = {:?}\nclient = [[{:?}, {:?}]]",
                at("ca.pem"),
                at("client.pem"),
                at("client.key")
            ),
        ),
        (
            "anybody",
            format!(
                "skip_verify = true\nclient = [[{:?}, {:?}]]",
                at("client.pem"),
                at("client.key")
            ),
        ),
    ] {
        rig.describe(&address, &format!("server = \"https://{address}\"\n{toml}\n"));
        rig.pull(&name).await.expect(how);
        rig.remove(&name);
    }
    // Docker's older way, without a hosts.toml: the files alone mean https.
    let dir = rig.real.dir().join("certs.d").join(&address);
    fs::remove_file(dir.join("hosts.toml")).expect("a file");
    for (from, to) in [
        ("ca.pem", "ca.crt"),
        ("client.pem", "c.cert"),
        ("client.key", "c.key"),
    ] {
        fs::copy(at(from), dir.join(to)).expect("a copy");
    }
    rig.pull(&name).await.expect("docker's way");
    rig.strike().await;
}

/// A registry that serves with the certificate and key of that name.
fn serving(rig: &mut Rig, dir: &std::path::Path, name: &str) {
    let tls = Some((dir.join(format!("{name}.pem")), dir.join(format!("{name}.key"))));
    let kind = Kind {
        tls,
        ..Kind::default()
    };
    let registry = std::mem::replace(&mut rig.registry, Registry::start());
    rig.registry = registry.turned_into(kind);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_signs_itself_is_believed_where_it_is_the_one_that_was_configured() {
    let Some(mut rig) = Rig::set("a_certificate_that_signs_itself").await else {
        return;
    };
    rig.registry
        .push("own", "1", &Image::busybox(Packed::OciGzip, "own", &[]));
    let made = tempfile::tempdir().expect("a directory");
    let dir = made.path();
    let (here, elsewhere) = ("subjectAltName=IP:127.0.0.1", "subjectAltName=DNS:r.example");
    // The recipe of Docker's documentation; a second one like it; and what may be wrong with such a one.
    signs_itself(dir, "recipe", "P-256", &[here]);
    signs_itself(dir, "other", "P-256", &[here]);
    signs_itself(
        dir,
        "leaf",
        "P-256",
        &[here, "basicConstraints=critical,CA:FALSE"],
    );
    signs_itself(dir, "elsewhere", "P-256", &[elsewhere]);
    signs_itself(dir, "nameless", "P-256", &[]);
    out_of_date(dir, "old", "recipe");
    // One of somebody else's authority, which is not configured, but it is itself.
    authority(dir, "unknown", "P-256");
    certificate(dir, "pinned", "unknown", "P-256", &[]);
    let at = |name: &str| dir.join(format!("{name}.pem"));
    for (server, ca, refusal) in [
        ("recipe", "recipe", None),
        ("leaf", "leaf", None),
        ("pinned", "pinned", None),
        (
            "recipe",
            "other",
            Some(
                "its certificate is an authority's (CA:TRUE), and not one that is configured: name it as `ca` in a hosts.toml, or make one for the server, with basicConstraints=CA:FALSE",
            ),
        ),
        (
            "pinned",
            "other",
            Some("UnknownIssuer: name the certificate of its authority, or its own, as `ca` in a hosts.toml"),
        ),
        (
            "elsewhere",
            "elsewhere",
            Some("not valid for name \"127.0.0.1\"; certificate is only valid for"),
        ),
        (
            "nameless",
            "nameless",
            Some("make one that has the registry's name as subjectAltName"),
        ),
        ("old", "old", Some("Expired")),
    ] {
        serving(&mut rig, dir, server);
        let address = rig.registry.address();
        let name = format!("{address}/own:1");
        rig.describe(
            &address,
            &format!("server = \"https://{address}\"\nca = {:?}\n", at(ca)),
        );
        match (rig.pull(&name).await, refusal) {
            (Ok(()), None) => rig.remove(&name),
            (Err(why), Some(refusal)) => {
                let report = why.report();
                assert!(
                    report.contains(refusal) && report.contains(&name),
                    "{server} {ca}: {report}"
                );
            }
            (pulled, _) => panic!("{server} {ca}: {pulled:?}"),
        }
    }
    // Docker's older way.
    serving(&mut rig, dir, "recipe");
    let address = rig.registry.address();
    let described = rig.real.dir().join("certs.d").join(&address);
    fs::create_dir_all(&described).expect("a directory");
    fs::copy(at("recipe"), described.join("ca.crt")).expect("a copy");
    rig.pull(&format!("{address}/own:1")).await.expect("docker's way");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curve_that_registries_have_works_or_is_named() {
    let Some(mut rig) = Rig::set("every_curve").await else {
        return;
    };
    rig.registry
        .push("curves", "1", &Image::busybox(Packed::OciGzip, "curves", &[]));
    let made = tempfile::tempdir().expect("a directory");
    let dir = made.path();
    for curve in ["P-256", "P-384", "P-521", "secp256k1"] {
        authority(dir, curve, curve);
    }
    let server = |name: &str, authority: &str, curve: &str, hash: &str| {
        certificate(dir, name, authority, curve, &[hash]);
    };
    server("leaf", "P-256", "P-521", "-sha256");
    server("256", "P-521", "P-256", "-sha256");
    server("384", "P-521", "P-384", "-sha384");
    server("512", "P-521", "P-521", "-sha512");
    server("koblitz", "secp256k1", "P-256", "-sha256");
    signs_itself(dir, "own", "P-521", &["subjectAltName=IP:127.0.0.1"]);
    for (server, ca, refusal) in [
        ("leaf", "P-256", None),
        ("256", "P-521", None),
        ("384", "P-521", None),
        ("512", "P-521", None),
        ("own", "own", None),
        // Not who has signed it.
        ("leaf", "P-521", Some("UnknownIssuer")),
        (
            "koblitz",
            "secp256k1",
            Some(
                "is signed with ECDSA and SHA-256 and a key of the curve secp256k1, which is not supported: make one with P-256",
            ),
        ),
    ] {
        serving(&mut rig, dir, server);
        let address = rig.registry.address();
        let name = format!("{address}/curves:1");
        let ca_file = dir.join(format!("{ca}.pem"));
        rig.describe(
            &address,
            &format!("server = \"https://{address}\"\nca = {ca_file:?}\n"),
        );
        match (rig.pull(&name).await, refusal) {
            (Ok(()), None) => rig.remove(&name),
            (Err(why), Some(refusal)) => {
                assert!(why.report().contains(refusal), "{server}: {}", why.report())
            }
            (pulled, _) => panic!("{server} of {ca}: {pulled:?}"),
        }
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_without_tls_that_is_not_here_or_said_to_be_so() {
    let Some(rig) = Rig::set("nothing_is_asked_without_tls").await else {
        return;
    };
    // A registry here may redirect to a host here, but not to one elsewhere without TLS.
    rig.registry
        .push("a", "1", &Image::busybox(Packed::OciGzip, "redirected", &[10]));
    rig.proxy.break_next(
        usize::MAX,
        |seen| seen.path.contains("/blobs/"),
        Fate::status(
            "302 Found",
            &[("location", "http://192.0.2.1/blob?signature=s3cret")],
            "",
        ),
    );
    let before = rig.world();
    let refused = rig.pull(&rig.name("a:1")).await.expect_err("refused");
    let report = refused.report();
    assert!(report.contains("to plain http at 192.0.2.1"), "{report}");
    assert!(!report.contains("s3cret"), "{report}");
    assert_eq!((refused.code(), refused.kind()), (502, ErrorKind::ImageRejected));
    rig.settles(&before, "a redirect that is not followed");
    rig.strike().await;
}
