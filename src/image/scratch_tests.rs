//! Renewing leases, with a real containerd.

use std::time::{Duration, SystemTime};

use super::ImageStore;
use super::scratch::{PURPOSE, Scratch, unique};
use crate::containerd::testing::{Private, patience};
use crate::containerd::{Descriptor, Session};
use crate::process_identity::ProcessIdentity;
use crate::{Context, Digest, LeaseId};

use sha2::{Digest as _, Sha256};

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "text/plain".into(),
        digest: Digest::new(format!("sha256:{:x}", Sha256::digest(bytes))).unwrap(),
        size: bytes.len() as u64,
    }
}

async fn write(session: &Session, bytes: &[u8]) -> Digest {
    let blob = blob(bytes);
    let reference = blob.digest.to_string();
    session
        .content()
        .write(&patience(), &reference, &blob, &Default::default(), bytes)
        .await
        .unwrap();
    blob.digest
}

async fn collect(session: &Session) {
    let scratch = Scratch::take(session, &patience(), ("collect", "all"), Duration::from_secs(60))
        .await
        .unwrap();
    scratch.release(&patience(), true).await;
}

async fn is_there(session: &Session, digest: &Digest) -> bool {
    session.content().info(&patience(), digest).await.is_ok()
}

#[tokio::test]
async fn a_renewed_lease_holds_what_came_under_the_ones_before_it() {
    let Some(private) = Private::start().await else {
        return;
    };
    let session = private.session().await;
    let ctx = Context::new();
    let scratch = Scratch::take(&session, &ctx, ("test", "a renewal"), Duration::from_secs(4))
        .await
        .unwrap();
    let early = scratch.leased();
    let first = write(&early, b"first").await;
    let begun = scratch.generation();
    // Four renewals fit into one lease, and the fourth is past its end.
    let second = tokio::select! {
        never = scratch.keep_alive(&ctx) => match never {},
        second = async {
            while scratch.generation() == begun {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // A call with a session from before the renewal.
            let second = write(&early, b"second").await;
            while scratch.generation() < begun + 6 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            second
        } => second,
    };
    let leases = session.leases().list(&patience(), &[]).await.unwrap();
    // The current lease, the previous one, and for a moment after each renewal one more.
    assert!((2..=3).contains(&leases.len()), "{leases:?}");
    let third = write(&scratch.leased(), b"third").await;
    collect(&session).await;
    for held in [&first, &second, &third] {
        assert!(is_there(&session, held).await, "{held}");
    }
    scratch.release(&ctx, true).await;
    assert!(session.leases().list(&patience(), &[]).await.unwrap().is_empty());
    for gone in [&first, &second, &third] {
        assert!(!is_there(&session, gone).await, "{gone}");
    }
}

#[tokio::test]
async fn what_is_left_for_others_ends_by_itself() {
    let Some(private) = Private::start().await else {
        return;
    };
    let session = private.session().await;
    let ctx = Context::new();
    let scratch = Scratch::take(&session, &ctx, ("test", "a renewal"), Duration::from_secs(60))
        .await
        .unwrap();
    let left = write(&scratch.leased(), b"left").await;
    scratch.leave(&ctx, Duration::from_secs(2)).await;
    let leases = session.leases().list(&patience(), &[]).await.unwrap();
    assert_eq!(leases.len(), 1, "{leases:?}");
    collect(&session).await;
    assert!(is_there(&session, &left).await);
    tokio::time::sleep(Duration::from_millis(3200)).await;
    collect(&session).await;
    assert!(!is_there(&session, &left).await, "its lease has ended");
}

/// A lease with its contents, as a killed process leaves it.
async fn left_by_a_killed_one(session: &Session, purpose: &str, bytes: &[u8]) -> Digest {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let holder = ProcessIdentity::of_pid(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut labels = holder.labels();
    labels.insert(PURPOSE.to_owned(), purpose.to_owned());
    let lease = LeaseId::new(unique(purpose)).unwrap();
    let expires = SystemTime::now() + Duration::from_secs(3600);
    let leases = session.leases();
    leases
        .create(&patience(), &lease, expires, &labels)
        .await
        .unwrap();
    write(&session.leased(&lease), bytes).await
}

#[tokio::test]
async fn leases_of_killed_processes_go_at_the_start_and_young_pulls_with_a_removal() {
    let Some(private) = Private::start().await else {
        return;
    };
    let session = private.session().await;
    let store = ImageStore::new(session.clone(), "overlayfs", &private.scratch());
    let ctx = patience();
    let view = left_by_a_killed_one(&session, "view", b"view").await;
    let pull = left_by_a_killed_one(&session, "pull", b"pull").await;
    let lives = Scratch::take(&session, &ctx, ("load", "a.tar"), Duration::from_secs(60))
        .await
        .unwrap();
    let loading = write(&lives.leased(), b"loading").await;
    // Deletes the leases as the start of an engine does.
    let orphans = store.orphans(&ctx, Duration::from_secs(600)).await.unwrap();
    let mut sweep = store.sweep(&ctx).await.unwrap();
    store.end_leases(&ctx, &mut sweep, &orphans).await.unwrap();
    drop(sweep);
    assert!(!is_there(&session, &view).await);
    assert!(is_there(&session, &pull).await, "another can go on with it");
    // As with the setting that keeps nothing.
    assert_eq!(store.orphans(&ctx, Duration::ZERO).await.unwrap().0.len(), 1);
    let removed = store.prune(&ctx, true).await.unwrap();
    assert!(!is_there(&session, &pull).await);
    assert_eq!(
        (removed.freed, removed.kept),
        (8, None),
        "with what the start has freed"
    );
    assert!(is_there(&session, &loading).await, "its process lives");
    // The bytes that it has left for another pull are no longer in use.
    lives.leave(&ctx, Duration::from_secs(60)).await;
    assert!(is_there(&session, &loading).await);
    assert_eq!(store.prune(&ctx, true).await.unwrap().freed, 7);
    assert!(!is_there(&session, &loading).await);
}
