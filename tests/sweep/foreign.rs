//! A name that somebody else's container has: a conflict, and nothing of it is touched.

use fnctr::driver::{Driver, ErrorKind, Status};
use fnctr::{ContainerState, Context};

use crate::fake_containerd::How;
use crate::rig::{LONG, Rig, cookie, run_through};
use crate::ways::Way;

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_and_its_owner_lives_on_whatever_call_breaks() {
    let rig = Rig::warm().await;
    let other = rig.another("one").await;
    rig.fake.script(crate::rig::forever());
    let (owner, _) = cookie(&other, "c1").await;
    let ctx = Context::timeout(LONG);
    owner.validate_image(&ctx).await.unwrap();
    owner.create_container(&ctx).await.unwrap();
    let running = owner.run(&ctx).await.unwrap();
    let world = rig.fake.world();
    assert_eq!(
        (world.containers.len(), world.tasks.len(), world.snapshots.len()),
        (1, 1, 1)
    );

    let refused = rig.live(&Context::new(), "c1").await;
    assert_eq!(refused.ran.unwrap_err().kind(), ErrorKind::Conflict);
    refused.closed.unwrap();
    assert_eq!(rig.fake.world(), world);

    // The attempt that is refused makes these calls, the last in its undo when it cannot know that it was refused.
    for call in ["Images/Get", "Containers/Create", "Containers/Get"] {
        for way in Way::AT_ONCE.into_iter().chain([Way::Hang]) {
            let faults = rig.fake.faults();
            let mut met = false;
            for limit in way.limits() {
                let attempt = Context::timeout(limit);
                faults.reset();
                if call == "Containers/Get" {
                    faults.break_call("Containers/Create", 1, Way::ReplyLost.how(&attempt));
                }
                faults.break_call(call, 1, way.how(&attempt));
                let life = rig.live(&attempt, "c1").await;
                met = faults.unmet() == 0;
                assert!(met || attempt.check().is_err(), "{call} {way:?}: no call met it");
                let kind = life.ran.unwrap_err().kind();
                let lost = [way.kind(), ErrorKind::Conflict, Way::ReplyLost.kind()];
                assert!(lost.contains(&kind), "{call} {way:?}: {kind}");
                life.closed.unwrap();
                assert_eq!(rig.fake.world(), world, "{call} {way:?}");
                if met {
                    break;
                }
            }
            assert!(met, "{call} {way:?}: no call met it");
        }
    }
    rig.fake.faults().reset();
    let early = running
        .wait(&Context::timeout(std::time::Duration::from_millis(20)))
        .await;
    assert_eq!(early.status(), Status::Timeout, "the owner's function still runs");
    owner.close(&ctx).await.unwrap();
    rig.assert_clean("the owner's close").await;
    rig.fake.script(crate::rig::greeting());
    rig.live_well("c1").await;
    other.close(&ctx).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn of_two_that_want_a_name_at_once_one_gets_it() {
    let rig = Rig::warm().await;
    let ctx = Context::timeout(LONG);
    let (one, _) = rig.cookie("c1").await;
    let (two, said) = rig.cookie("c1").await;
    let (first, second) = tokio::join!(
        async {
            one.validate_image(&ctx).await.unwrap();
            one.create_container(&ctx).await
        },
        async {
            two.validate_image(&ctx).await.unwrap();
            two.create_container(&ctx).await
        }
    );
    let refused = match (first, second) {
        (Ok(()), Err(refused)) | (Err(refused), Ok(())) => refused,
        both => panic!("{both:?}"),
    };
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(rig.fake.world().containers.len(), 1);
    one.close(&ctx).await.unwrap();
    two.close(&ctx).await.unwrap();
    rig.assert_clean("both closes").await;
    let (three, _) = rig.cookie("c1").await;
    assert_eq!(
        run_through(three.as_ref(), &ctx).await.unwrap().status(),
        Status::Success
    );
    three.close(&ctx).await.unwrap();
    assert_eq!(said.text(), "");
    rig.end().await;
}

#[tokio::test]
async fn a_host_without_an_instance_id_removes_at_its_next_start_what_it_left() {
    let rig = Rig::warm().await;
    rig.fake.script(crate::rig::forever());
    let ctx = Context::timeout(LONG);
    let crashed = rig.another("").await;
    let (left, _) = cookie(&crashed, "c1").await;
    left.validate_image(&ctx).await.unwrap();
    left.create_container(&ctx).await.unwrap();
    left.run(&ctx).await.unwrap();
    // A process that is killed runs no destructors.
    std::mem::forget(left);

    let next = rig.another("").await;
    rig.until_clean("the start after a crash").await;
    next.close(&ctx).await.unwrap();
    crashed.close(&ctx).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_list_is_streamed_and_comes_at_once_from_a_containerd_that_cannot_stream_it() {
    let rig = Rig::warm().await;
    let ctx = Context::timeout(LONG);
    let one = rig.created("c1").await;
    let listed = async || {
        let found = rig.driver.adoptable(&ctx).await.unwrap();
        found.iter().map(|found| found.id.to_string()).collect::<Vec<_>>()
    };
    let at_once = || rig.fake.calls().iter().any(|call| call == "Containers/List");
    assert_eq!(listed().await, ["c1"]);
    assert!(!at_once());
    let missing = tonic::Status::unimplemented("unknown method ListStream");
    rig.fake
        .faults()
        .break_call("Containers/ListStream", 1, How::BeforeEffect(missing));
    assert_eq!(listed().await, ["c1"]);
    assert!(at_once());
    one.close(&ctx).await.unwrap();
    rig.end().await;
}

#[tokio::test]
async fn a_host_that_has_lost_its_list_finds_its_own_containers_and_takes_them_over() {
    let rig = Rig::warm().await;
    rig.fake.script(crate::rig::forever());
    let ctx = Context::timeout(LONG);
    let owner = rig.created("c1").await;
    owner.run(&ctx).await.unwrap();
    let other = rig.created("c2").await;
    let next = rig.another("one").await;
    let mut found = next.adoptable(&ctx).await.unwrap();
    found.sort_by(|one, other| one.id.cmp(&other.id));
    let seen: Vec<_> = found
        .iter()
        .map(|found| (found.id.as_str(), found.state))
        .collect();
    let expected = [("c1", ContainerState::Running), ("c2", ContainerState::Created)];
    assert_eq!(seen, expected);
    assert!(found.iter().all(|found| found.created.is_some()));
    assert_eq!(found[0].labels["fn-agent-instance"], "one");
    assert!(found[0].image.ends_with("fake:latest"), "{found:?}");
    other.close(&ctx).await.unwrap();

    rig.fake.faults().reset();
    let adopted = next.adopt(&ctx, &found[0].id).await.unwrap();
    let asked = rig.fake.calls();
    let asked: Vec<_> = asked.iter().filter(|call| call.ends_with("/Get")).collect();
    assert_eq!(asked, ["Containers/Get", "Tasks/Get"], "each is asked once");
    let options: Option<fnctr::ContainerOptions> = adopted.cookie.options();
    assert!(options.is_none(), "what is not known is not made up: {options:?}");
    let shown = format!("{:?}", adopted.running);
    assert!(shown.len() < 100 && shown.contains("c1"), "{shown}");
    adopted.cookie.close(&ctx).await.unwrap();
    owner.close(&ctx).await.unwrap();
    rig.assert_clean("a container that was taken over").await;

    next.close(&ctx).await.unwrap();
    let closed = next.adoptable(&ctx).await.unwrap_err();
    assert_eq!(closed.report(), "the driver is closed");
    let closed = next.adopt(&ctx, &found[0].id).await.unwrap_err();
    assert_eq!(closed.report(), "the driver is closed");
    rig.end().await;
}

#[tokio::test]
async fn what_containerd_or_its_host_does_not_have_is_refused_at_connect_by_name() {
    let rig = Rig::start().await;
    let connect = async |change: &dyn Fn(&mut fnctr::Settings)| {
        let (config, mut settings) = crate::rig::config(&rig.fake, rig.run.path(), "two");
        change(&mut settings);
        let connected = fnctr::ContainerdDriver::connect(&Context::timeout(LONG), config, settings).await;
        connected.map(drop).unwrap_err()
    };
    for (error, names) in [
        (connect(&|s| s.snapshotter = "nosuch".into()).await, "nosuch"),
        (
            connect(&|s| s.runtime_binary = Some("nosuch".into())).await,
            "nosuch",
        ),
        (
            connect(&|s| s.runtime_binary = Some("/etc/passwd".into())).await,
            "/etc/passwd",
        ),
        (connect(&|s| s.run_dir = "run".into()).await, "run_dir"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
        assert!(error.report().contains(names), "{error:?}");
    }
    rig.end().await;
}
