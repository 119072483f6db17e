//! What the process itself holds: descriptors and children, counted while nothing else runs in it.

use std::time::Duration;

use crate::fault_sweep::calls_of_a_life;
use crate::rig::{ALONE, Rig, eventually};
use crate::ways::Way;

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn lives_with_and_without_faults_leave_no_descriptor_open() {
    let _alone = ALONE.write().await;
    let rig = Rig::beside_nobody().await;
    let calls = calls_of_a_life(&rig).await;
    rig.live_well("c1").await;
    // What ends beside the last life has ended.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = open();
    for (call, nth) in &calls {
        for way in Way::OF_CONTAINERD {
            let ctx = way.context();
            rig.fake.faults().reset();
            rig.fake.faults().break_call(call, *nth, way.how(&ctx));
            let life = rig.live(&ctx, "c1").await;
            life.closed.unwrap();
        }
    }
    rig.fake.faults().reset();
    rig.live_well("c1").await;
    eventually("descriptors are left open", || open() <= before).await;
    rig.end().await;
}
