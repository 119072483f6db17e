//! What of the file system may be written, and how much.

use fnctr::driver::Task;

use super::{Held, seen};
use crate::world::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_tmpfs_holds_its_size_and_its_inodes_and_the_root_is_closed() {
    let staged = Stage::with("a_tmpfs_holds_its_size", |config| {
        config.enable_readonly_rootfs = true;
        config.max_tmpfs_inodes = 10;
    });
    let Some(stage) = staged.await else { return };
    let task = Task {
        tmpfs_size: 2,
        ..stage.task("")
    };
    let script = "
        touch /x 2>/dev/null && echo root=open || echo root=closed
        dd if=/dev/zero of=/tmp/big bs=4096 count=1000 2>/dev/null; echo bytes=$(stat -c %s /tmp/big)
        rm /tmp/big
        n=0; while touch /tmp/$n 2>/dev/null; do n=$((n+1)); done; echo files=$n
        cp /bin/true /tmp/0; /tmp/0 2>/dev/null && echo exec || echo noexec
        echo done
        read wait
    ";
    let held = Held::start(&stage, task, script).await;
    let said = held.until_it_says("done").await;
    // The root of the tmpfs is one of its inodes.
    for line in ["root=closed", "bytes=2097152", "files=9", "noexec"] {
        assert!(
            said.lines().any(|said| said == line),
            "{line:?} is not in:\n{said}"
        );
    }
    let mounts = held.outside.proc("mountinfo");
    let of = |point: &str| {
        let found = mounts.lines().find(|line| line.split(' ').nth(4) == Some(point));
        found
            .unwrap_or_else(|| panic!("no {point} in\n{mounts}"))
            .to_owned()
    };
    let options = |line: &str| line.split(' ').nth(5).unwrap_or_default().to_owned();
    assert!(
        options(&of("/")).split(',').any(|option| option == "ro"),
        "{}",
        of("/")
    );
    let tmp = of("/tmp");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(options(&tmp).split(',').any(|seen| seen == option), "{tmp}");
    }
    assert!(
        tmp.contains("size=2048k") && tmp.contains("nr_inodes=10"),
        "{tmp}"
    );
    seen(
        "read-only root; /tmp of 2 MiB took 2097152 bytes and 9 files beside its root, and runs no programs",
    );
    held.close().await;
    stage.strike().await;
}
