//! Logins: who is asked for which credentials, and that nobody else ever sees them.

use fnctr::driver::{BackOffConfig, Credentials, Driver as _, ErrorKind, retry_transient};

use crate::proxy::{Fate, Proxy, Seen};
use crate::registry::{Image, Kind, Packed, USER};
use crate::rig::{Rig, pull};

const BASIC: &str = "Basic Ym9iOmh1bnRlcjI=";

fn bob(password: &str) -> Option<Credentials> {
    Some(Credentials::Basic {
        username: USER.0.to_owned(),
        password: password.to_owned(),
    })
}

/// A registry with passwords, and an image in it.
async fn closed(test: &str) -> Option<Rig> {
    let push = |registry: &crate::registry::Registry| {
        registry.push(
            "private",
            "1",
            &Image::busybox(Packed::OciGzip, "private", &[100]),
        );
        Some(Kind {
            login: true,
            ..Kind::default()
        })
    };
    Rig::with(test, push, |_| {}).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_opens_a_registry_and_a_wrong_one_is_told_apart_from_none() {
    let Some(rig) = closed("a_password_opens_a_registry").await else {
        return;
    };
    let name = rig.name("private:1");
    let before = rig.world();
    let nobody = pull(&rig.driver, &name, None).await.expect_err("it is closed");
    assert_eq!((nobody.kind(), nobody.code()), (ErrorKind::ImageDenied, 401));
    let expected = format!(
        "Failed to pull image '{name}': registry {} wants credentials, and there are none, for manifest 1 of private: authentication required",
        rig.proxy.address()
    );
    assert_eq!(nobody.report(), expected);
    let wrong = pull(&rig.driver, &name, bob("hunter3")).await.expect_err("wrong");
    assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::ImageDenied, 401));
    assert!(
        wrong.report().contains("refuses the credentials"),
        "{}",
        wrong.report()
    );
    assert!(!format!("{wrong:?}").contains("hunter3"));
    assert!(wrong.is_user_error());
    rig.settles(&before, "pulls that were denied");
    pull(&rig.driver, &name, bob(USER.1)).await.expect("bob may");
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drivers_own_configuration_opens_it_too() {
    let Some(rig) = closed("the_drivers_own_configuration").await else {
        return;
    };
    let name = rig.name("private:1");
    let address = rig.proxy.address();
    let json = format!(r#"{{"auths": {{"http://{address}/v2/": {{"auth": "Ym9iOmh1bnRlcjI="}}}}}}"#);
    let config = rig.real.dir().join("config.json");
    // The file is read when it is needed, so it may come later than the driver.
    let by_file = rig
        .another(|registries| registries.docker_config = Some(config.clone()))
        .await;
    pull(&by_file, &name, None).await.expect_err("no file yet");
    std::fs::write(&config, &json).expect("a file");
    pull(&by_file, &name, None).await.expect("by the file");
    rig.remove(&name);
    let by_text = rig
        .another(|registries| registries.docker_auth = Some(json))
        .await;
    pull(&by_text, &name, None).await.expect("by the text");
    rig.remove(&name);
    // The task's own come first, also if they are wrong.
    let refused = pull(&by_text, &name, bob("hunter3")).await;
    assert_eq!(refused.expect_err("wrong").code(), 401);
    rig.strike().await;
}

/// A token server: bob's password or refresh token gives `granted`, nothing gives `anonymous`.
async fn tokens() -> Proxy {
    let server = Proxy::start("127.0.0.1:1".to_owned()).await;
    server.plan(|seen| {
        let refresh = seen
            .body
            .contains("grant_type=refresh_token&refresh_token=re%2Bfresh");
        let token = match (seen.method.as_str(), seen.header("authorization")) {
            ("POST", _) if refresh => r#"{"access_token": "granted"}"#,
            ("GET", Some(BASIC)) => r#"{"token": "granted", "expires_in": 60}"#,
            ("GET", None) => r#"{"token": "anonymous"}"#,
            _ => {
                return Fate::status(
                    "401 Unauthorized",
                    &[],
                    r#"{"details": "incorrect username or password"}"#,
                );
            }
        };
        Fate::status("200 OK", &[], token)
    });
    server
}

fn wants_token(seen: &Seen, tokens: &str, token: &str) -> Option<Fate> {
    let has = seen.header("authorization") == Some(&format!("Bearer {token}"));
    let challenge =
        format!(r#"Bearer realm="http://{tokens}/token",service="test",scope="repository:a/b:pull""#);
    (!has).then(|| Fate::status("401 Unauthorized", &[("www-authenticate", &challenge)], ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_fetched_once_for_all_requests_and_again_when_it_has_ended() {
    let Some(rig) = Rig::set("a_token_is_fetched_once").await else {
        return;
    };
    let server = tokens().await;
    rig.registry
        .push("a/b", "1", &Image::busybox(Packed::OciGzip, "token", &[100, 100]));
    let name = rig.name("a/b:1");
    let address = server.address();
    rig.proxy
        .plan(move |seen| wants_token(seen, &address, "anonymous").unwrap_or(Fate::Pass));
    rig.pull(&name).await.expect("for anybody");
    assert_eq!(server.seen().len(), 1, "{:?}", server.seen());
    let asked = &server.seen()[0];
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("GET", "/token?service=test&scope=repository%3Aa%2Fb%3Apull")
    );
    rig.remove(&name);
    // It ends in the middle: the third request is refused.
    server.reset_seen();
    let (address, mut count) = (server.address(), 0);
    rig.proxy.plan(move |seen| {
        count += 1;
        if count == 4 {
            return wants_token(seen, &address, "never").expect("refused");
        }
        wants_token(seen, &address, "anonymous").unwrap_or(Fate::Pass)
    });
    rig.pull(&name).await.expect("with a second token");
    assert_eq!(server.seen().len(), 2);
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_that_slips_is_asked_again_and_one_that_limits_is_obeyed() {
    let Some(rig) = Rig::set("a_token_server_that_slips").await else {
        return;
    };
    let once = BackOffConfig {
        max_retries: 1,
        ..BackOffConfig::default()
    };
    rig.driver
        .set_pull_image_retry_policy(once, retry_transient())
        .expect("a policy");
    for (salt, fate, waits) in [
        ("503", Fate::status("503 Service Unavailable", &[], ""), 0),
        ("cut", Fate::Refuse, 0),
        (
            "429",
            Fate::status("429 Too Many Requests", &[("retry-after", "1")], ""),
            1,
        ),
    ] {
        let mut fate = Some(fate);
        let server = Proxy::start("127.0.0.1:1".to_owned()).await;
        server.plan(move |_| {
            fate.take()
                .unwrap_or_else(|| Fate::status("200 OK", &[], r#"{"token": "anonymous"}"#))
        });
        let address = server.address();
        rig.proxy
            .plan(move |seen| wants_token(seen, &address, "anonymous").unwrap_or(Fate::Pass));
        rig.registry
            .push("a/b", salt, &Image::busybox(Packed::OciGzip, salt, &[]));
        let began = tokio::time::Instant::now();
        let name = rig.name(&format!("a/b:{salt}"));
        rig.pull(&name)
            .await
            .unwrap_or_else(|why| panic!("{salt}: {why:?}"));
        assert!(began.elapsed().as_secs() >= waits, "{salt} was not obeyed");
        assert_eq!(server.seen().len(), 2, "{salt}");
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_identity_tokens_are_exchanged_and_registry_tokens_are_not() {
    let Some(rig) = Rig::set("passwords_and_identity_tokens").await else {
        return;
    };
    let server = tokens().await;
    rig.registry
        .push("a/b", "1", &Image::busybox(Packed::OciGzip, "granted", &[100]));
    let name = rig.name("a/b:1");
    let address = server.address();
    rig.proxy
        .plan(move |seen| wants_token(seen, &address, "granted").unwrap_or(Fate::Pass));
    let anybody = pull(&rig.driver, &name, None).await.expect_err("not for anybody");
    assert_eq!(anybody.code(), 401, "{anybody:?}");
    for (credentials, method) in [
        (bob(USER.1), Some("GET")),
        (Some(Credentials::IdentityToken("re+fresh".into())), Some("POST")),
        (Some(Credentials::RegistryToken("granted".into())), None),
    ] {
        server.reset_seen();
        pull(&rig.driver, &name, credentials)
            .await
            .expect("with credentials");
        let asked: Vec<_> = server.seen().iter().map(|seen| seen.method.clone()).collect();
        assert_eq!(asked, method.into_iter().collect::<Vec<_>>());
        rig.remove(&name);
    }
    for wrong in [
        bob("hunter3"),
        Some(Credentials::IdentityToken("stale".into())),
        Some(Credentials::RegistryToken("stale".into())),
    ] {
        let refused = pull(&rig.driver, &name, wrong).await.expect_err("wrong");
        assert_eq!(
            (refused.code(), refused.kind()),
            (401, ErrorKind::ImageDenied),
            "{refused:?}"
        );
        let report = refused.report();
        assert!(
            !report.contains("hunter3") && !report.contains("stale"),
            "{report}"
        );
    }
    rig.strike().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let Some(rig) = closed("a_redirect_takes_no_credentials").await else {
        return;
    };
    // Where blobs really are: it is open to everybody who knows the way.
    let open = crate::registry::Registry::start();
    open.push(
        "private",
        "1",
        &Image::busybox(Packed::OciGzip, "private", &[100]),
    );
    let cdn = Proxy::start(open.address()).await;
    let address = cdn.port();
    rig.proxy.plan(move |seen| {
        if !seen.path.contains("/blobs/") || seen.header("authorization").is_none() {
            return Fate::Pass;
        }
        // `localhost` and `127.0.0.1` are two hosts.
        let to = format!("http://localhost:{address}{}", seen.path);
        Fate::status("307 Temporary Redirect", &[("location", &to)], "")
    });
    let proxied = rig.proxy.address();
    let description = format!("server = \"http://{proxied}\"\n[header]\nx-secret = \"s3cret\"\n");
    rig.describe(&proxied, &description);
    pull(&rig.driver, &rig.name("private:1"), bob(USER.1))
        .await
        .expect("to pull");
    let (here, there) = (rig.proxy.seen(), cdn.seen());
    assert!(
        here.iter().all(|seen| seen.header("x-secret") == Some("s3cret")),
        "{here:?}"
    );
    assert_eq!(there.len(), 3, "{there:?}");
    for seen in &there {
        assert_eq!(
            (seen.header("authorization"), seen.header("x-secret")),
            (None, None),
            "{seen:?}"
        );
    }
    rig.strike().await;
}
