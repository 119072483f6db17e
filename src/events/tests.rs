use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::*;

fn event(id: &str) -> Event {
    Event::new(Kind::Container, Action::Start, id).with("image", "busybox")
}

/// The names in the events that the log has by now, with "-" for a gap.
fn names(follower: &mut Follower) -> Vec<String> {
    let next = std::iter::from_fn(|| follower.next_now().unwrap());
    let name = |next| match next {
        Next::Event(event) => event.id,
        Next::Gap => "-".to_owned(),
    };
    next.map(name).collect()
}

#[tokio::test]
async fn an_event_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path().join("made"));
    let before = SystemTime::now();
    log.record(event("c1"));
    let mut follower = log.follow(Some(before)).unwrap();
    let Some(Next::Event(read)) = follower.next_now().unwrap() else {
        panic!("no event");
    };
    assert!(read.at >= before);
    assert_eq!(
        read,
        Event {
            at: read.at,
            ..event("c1")
        }
    );
}

#[tokio::test]
async fn a_reader_gets_what_was_and_then_what_comes_and_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path());
    log.record(event("old"));
    let since = SystemTime::now();
    log.record(event("a"));
    let (mut all, mut new) = (log.follow(Some(since)).unwrap(), log.follow(None).unwrap());
    // Of another process.
    EventLog::new(dir.path()).record(event("b"));
    log.record(event("c"));
    assert_eq!(names(&mut all), ["a", "b", "c"]);
    assert_eq!(names(&mut new), ["b", "c"]);
    assert_eq!(names(&mut all), Vec::<String>::new());
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_even_by_the_first_event_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path());
    let mut follower = log.follow(None).unwrap();
    let happens = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        log.record(event("first"));
    };
    let (next, ()) = tokio::join!(follower.next(), happens);
    assert!(matches!(next.unwrap(), Next::Event(event) if event.id == "first"));
}

#[tokio::test]
async fn more_readers_than_the_kernel_grants_instances_are_woken_each_time() {
    // `max_user_instances` is 128 on most hosts.
    const READERS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path());
    let mut followers: Vec<_> = (0..READERS).map(|_| log.follow(None).unwrap()).collect();
    for id in ["first", "second"] {
        let all = futures_util::future::join_all(followers.iter_mut().map(Follower::next));
        let happens = async {
            tokio::task::yield_now().await;
            log.record(event(id));
        };
        let all = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(all, happens).0 });
        for next in all.await.unwrap() {
            assert!(matches!(next.unwrap(), Next::Event(event) if event.id == id));
        }
    }
}

#[tokio::test]
async fn a_directory_that_was_removed_and_made_again_is_watched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path().join("events"));
    let kept = log.follow(None).unwrap();
    std::fs::remove_dir_all(dir.path().join("events")).unwrap();
    let mut follower = log.follow(None).unwrap();
    let happens = async { log.record(event("first")) };
    let both = async { tokio::join!(follower.next(), happens).0 };
    let next = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(matches!(next.unwrap(), Next::Event(event) if event.id == "first"));
    drop(kept);
}

#[tokio::test]
async fn the_log_is_bounded_and_a_reader_follows_it_from_file_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::bounded(dir.path(), 1000);
    let mut follower = log.follow(None).unwrap();
    let mut read = Vec::new();
    for number in 0..100 {
        log.record(event(&number.to_string()));
        read.extend(names(&mut follower));
    }
    let written: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(read, written);
    let size = |name| std::fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("events.log") + size("events.1.log") < 3000);
    // A late reader gets what is left, whole and in order.
    let late = names(&mut log.follow(Some(SystemTime::UNIX_EPOCH)).unwrap());
    assert!(late.len() > 5 && written.ends_with(&late), "{late:?}");
}

#[tokio::test]
async fn a_reader_that_is_too_slow_receives_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::bounded(dir.path(), 1000);
    log.record(event("0"));
    let mut follower = log.follow(Some(SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(names(&mut follower), ["0"]);
    for number in 1..100 {
        log.record(event(&number.to_string()));
    }
    let read = names(&mut follower);
    let gaps = read.iter().filter(|name| *name == "-").count();
    assert_eq!(gaps, 1, "{read:?}");
    assert_eq!(read.last().map(String::as_str), Some("99"));
}

#[tokio::test]
async fn several_writers_lose_nothing_and_break_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::bounded(dir.path(), 20_000);
    let mut follower = log.follow(None).unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let log = EventLog::bounded(dir.path(), 20_000);
            std::thread::spawn(move || {
                let write = |n| log.append(event(&format!("{writer}-{n}")));
                (0..50).try_for_each(write)
            })
        })
        .collect();
    let mut read = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while read.len() < 200 {
        // A writer that has failed says why below.
        if Instant::now() > until {
            break;
        }
        read.extend(names(&mut follower));
        std::thread::yield_now();
    }
    for writer in writers {
        writer.join().unwrap().unwrap();
    }
    read.sort();
    let mut written: Vec<_> = (0..4)
        .flat_map(|w| (0..50).map(move |n| format!("{w}-{n}")))
        .collect();
    written.sort();
    assert_eq!(read, written);
}

#[tokio::test]
async fn a_process_that_is_stopped_with_the_lock_blocks_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path());
    log.record(event("a"));
    let file = std::fs::File::open(dir.path().join("events.log")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    EventLog::new(dir.path()).record(event("b"));
    let mut all = log.follow(Some(SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(names(&mut all), ["a", "b"]);
}

#[tokio::test]
async fn a_part_of_an_event_that_a_full_disk_left_costs_that_event_alone() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let log = EventLog::new(dir.path());
    log.record(event("a"));
    let file = std::fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join("events.log"));
    file.unwrap().write_all(b"{\"at\":{\"secs\":\xc3").unwrap();
    log.record(event("b"));
    let mut all = log.follow(Some(SystemTime::UNIX_EPOCH)).unwrap();
    assert_eq!(names(&mut all), ["a", "b"]);
}
