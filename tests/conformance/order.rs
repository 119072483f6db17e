//! The order of steps, and what stops one.

use std::sync::Arc;

use fnctr::Context;
use fnctr::driver::{Cookie, Error, ErrorKind, Phase, Step, Task};

use super::world::{
    Need, World, assert_kind, cancelled, close, cookie, created, ctx, late, need, script, started,
};
use super::{Skip, Verdict};

const OUT_OF_ORDER: ErrorKind = ErrorKind::OutOfOrder;

async fn assert_cannot_run_or_freeze(phase: &str, cookie: &dyn Cookie) {
    assert_kind(phase, cookie.run(&ctx()).await, OUT_OF_ORDER);
    assert_kind(phase, cookie.freeze(&ctx()).await, OUT_OF_ORDER);
    assert_kind(phase, cookie.unfreeze(&ctx()).await, OUT_OF_ORDER);
}

pub(super) async fn a_step_before_its_turn_is_refused(world: Arc<dyn World>) -> Verdict {
    let early = cookie(&world, world.task("/bin/true")).await;
    assert_kind("fresh", early.pull_image(&ctx()).await, OUT_OF_ORDER);
    assert_kind("fresh", early.create_container(&ctx()).await, OUT_OF_ORDER);
    assert_cannot_run_or_freeze("fresh", &*early).await;
    assert!(!early.validate_image(&ctx()).await.expect("to validate"));
    assert_cannot_run_or_freeze("validated", &*early).await;
    // None of it has broken anything.
    early.create_container(&ctx()).await.expect("to create");
    assert_kind("created", early.create_container(&ctx()).await, OUT_OF_ORDER);
    assert_kind("created", early.validate_image(&ctx()).await, OUT_OF_ORDER);
    assert_kind("created", early.pull_image(&ctx()).await, OUT_OF_ORDER);
    assert_kind("created", early.freeze(&ctx()).await, OUT_OF_ORDER);
    close(early).await;

    let (running, wait) = started(&world, world.task("/bin/sleep 60")).await;
    assert_kind("running", running.run(&ctx()).await, OUT_OF_ORDER);
    assert_kind("running", running.create_container(&ctx()).await, OUT_OF_ORDER);
    close(running).await;
    drop(wait);
    Ok(())
}

pub(super) async fn a_closed_cookie_refuses_everything_but_close(world: Arc<dyn World>) -> Verdict {
    let closed = created(&world, world.task("/bin/true")).await;
    closed.close(&ctx()).await.expect("to close");
    assert_kind("closed", closed.validate_image(&ctx()).await, OUT_OF_ORDER);
    assert_kind("closed", closed.pull_image(&ctx()).await, OUT_OF_ORDER);
    assert_kind("closed", closed.create_container(&ctx()).await, OUT_OF_ORDER);
    assert_cannot_run_or_freeze("closed", &*closed).await;
    assert_kind("closed", world.touch_options(&*closed), OUT_OF_ORDER);
    close(closed).await;
    Ok(())
}

pub(super) async fn options_are_open_until_create(world: Arc<dyn World>) -> Verdict {
    let open = cookie(&world, world.task("/bin/true")).await;
    assert!(
        !world.options_are_touched(&*open),
        "the change was there before it was made"
    );
    world.touch_options(&*open).expect("to change options");
    assert!(world.options_are_touched(&*open), "the change is not there");
    assert!(!open.validate_image(&ctx()).await.expect("to validate"));
    assert!(world.options_are_touched(&*open), "validation lost the change");
    open.create_container(&ctx()).await.expect("to create");
    assert_kind("created", world.touch_options(&*open), OUT_OF_ORDER);
    assert!(
        world.options_are_touched(&*open),
        "options can be read after create"
    );
    struct NobodysOptions;
    assert!(open.options::<NobodysOptions>().is_none());
    close(open).await;
    Ok(())
}

pub(super) async fn a_missing_image_must_be_pulled_and_a_failed_pull_says_why(
    world: Arc<dyn World>,
) -> Verdict {
    let image = world.missing_image();
    let task = Task {
        image: image.clone(),
        ..world.task("/bin/true")
    };
    let missing = cookie(&world, task).await;
    assert!(
        missing.validate_image(&ctx()).await.expect("to validate"),
        "it is here"
    );
    assert_kind("not pulled", missing.create_container(&ctx()).await, OUT_OF_ORDER);
    let error = missing.pull_image(&ctx()).await.expect_err("to fail");
    let kinds = [
        ErrorKind::ImageNotFound,
        ErrorKind::ImageDenied,
        ErrorKind::Unavailable,
    ];
    assert!(kinds.contains(&error.kind()), "{error:?}");
    assert!(error.is_user_error(), "{error:?}");
    let says = format!("Failed to pull image '{image}': ");
    assert!(error.report().starts_with(&says), "{error:?}");
    assert_kind(
        "failed pull",
        missing.create_container(&ctx()).await,
        OUT_OF_ORDER,
    );
    close(missing).await;
    Ok(())
}

pub(super) async fn a_pulled_image_is_validated_again(world: Arc<dyn World>) -> Verdict {
    need(&world, Need::Registry)?;
    let task = Task {
        image: world.pullable_image(),
        ..world.task("/bin/true")
    };
    let pulled = cookie(&world, task).await;
    if !pulled.validate_image(&ctx()).await.expect("to validate") {
        close(pulled).await;
        return Err(Skip("the image to pull is here already".to_owned()));
    }
    pulled.pull_image(&ctx()).await.expect("to pull");
    assert_kind(
        "not validated again",
        pulled.create_container(&ctx()).await,
        OUT_OF_ORDER,
    );
    assert!(
        !pulled.validate_image(&ctx()).await.expect("to validate"),
        "it was pulled"
    );
    pulled.create_container(&ctx()).await.expect("to create");
    close(pulled).await;
    Ok(())
}

pub(super) async fn an_interrupted_context_stops_the_step_and_says_how(world: Arc<dyn World>) -> Verdict {
    let stopped = cookie(&world, world.task(&script("counter"))).await;
    assert_kind(
        "validate",
        stopped.validate_image(&cancelled()).await,
        ErrorKind::Cancelled,
    );
    assert_kind(
        "validate",
        stopped.validate_image(&late()).await,
        ErrorKind::Timeout,
    );
    assert!(!stopped.validate_image(&ctx()).await.expect("to validate"));
    assert_kind(
        "create",
        stopped.create_container(&cancelled()).await,
        ErrorKind::Cancelled,
    );
    assert_kind(
        "create",
        stopped.create_container(&late()).await,
        ErrorKind::Timeout,
    );
    // A step that was stopped can be taken again.
    stopped.create_container(&ctx()).await.expect("to create");
    assert_kind("run", stopped.run(&cancelled()).await, ErrorKind::Cancelled);
    close(stopped).await;
    Ok(())
}

/// How many cookies are taken through random steps, and how many steps each.
const ROUNDS: (u64, u64) = (12, 14);

pub(super) async fn steps_in_any_order_are_answered_by_the_table(world: Arc<dyn World>) -> Verdict {
    for round in 1..=ROUNDS.0 {
        // The same walks on every run, so that a failure can be seen again.
        let mut random = round;
        let walker = cookie(&world, world.task("/bin/sleep 60")).await;
        let (mut phase, mut walk) = (Phase::Fresh, Vec::new());
        for _ in 0..ROUNDS.1 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let step = Step::ALL[usize::try_from((random >> 33) % 8).expect("below 8")];
            let allowed = step.check(phase, "walker").is_ok();
            // Closing early would end most walks, and what a pull of a local image does is the registry's affair.
            if step == Step::Close || (step == Step::PullImage && allowed) {
                continue;
            }
            walk.push(step);
            let answer = take(&world, &*walker, step).await;
            match (allowed, answer) {
                (true, Ok(())) => phase = after(step, phase),
                (true, Err(error)) => panic!("round {round}: {walk:?} from {phase:?}: {error:?}"),
                (false, answer) => assert_kind(
                    &format!("round {round}: {walk:?} from {phase:?}"),
                    answer,
                    OUT_OF_ORDER,
                ),
            }
        }
        close(walker).await;
    }
    Ok(())
}

async fn take(world: &Arc<dyn World>, cookie: &dyn Cookie, step: Step) -> Result<(), Error> {
    match step {
        Step::ValidateImage => cookie.validate_image(&ctx()).await.map(drop),
        Step::PullImage => cookie.pull_image(&ctx()).await,
        Step::ChangeOptions => world.touch_options(cookie),
        Step::CreateContainer => cookie.create_container(&ctx()).await,
        Step::Run => cookie.run(&Context::new()).await.map(drop),
        Step::Freeze => cookie.freeze(&ctx()).await,
        Step::Unfreeze => cookie.unfreeze(&ctx()).await,
        Step::Close => cookie.close(&ctx()).await,
    }
}

/// Where an allowed step leads when the image is here.
fn after(step: Step, phase: Phase) -> Phase {
    match step {
        Step::ValidateImage => Phase::Valid,
        Step::PullImage => Phase::Pulled,
        Step::CreateContainer => Phase::Created,
        Step::Run => Phase::Running,
        Step::Close => Phase::Closed,
        Step::ChangeOptions | Step::Freeze | Step::Unfreeze => phase,
    }
}
