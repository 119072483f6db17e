//! Tasks that cannot be.

use std::sync::Arc;

use fnctr::driver::Error;

use super::world::{BadTask, World, ctx};
use super::{Skip, Verdict};

pub(super) async fn a_bad_task_is_named_and_leaves_nothing(world: Arc<dyn World>) -> Verdict {
    let before = world.census().await;
    let bad_tasks = world.bad_tasks();
    if bad_tasks.is_empty() {
        return Err(Skip("this driver refuses no task".to_owned()));
    }
    for BadTask {
        what,
        task,
        kind,
        names,
    } in bad_tasks
    {
        let error = refused(&world, task)
            .await
            .err()
            .unwrap_or_else(|| panic!("{what}: it ran"));
        assert_eq!(error.kind(), kind, "{what}: {error:?}");
        let said = error.report();
        assert!(said.contains(&names), "{what}: {names:?} is not named: {error:?}");
        assert!(!said.contains('\n'), "{what}: more than one sentence: {error:?}");
        assert_eq!(world.census().await, before, "left behind by {what}");
    }
    Ok(())
}

/// Takes a task as far as it goes, and closes its cookie.
async fn refused(world: &Arc<dyn World>, task: fnctr::driver::Task) -> Result<(), Error> {
    let cookie = world.driver().create_cookie(&ctx(), Arc::new(task)).await?;
    let went = async {
        cookie.validate_image(&ctx()).await?;
        cookie.create_container(&ctx()).await?;
        cookie.run(&ctx()).await.map(drop)
    };
    let went = went.await;
    cookie.close(&ctx()).await.expect("to close");
    went
}
