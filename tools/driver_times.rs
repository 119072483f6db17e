//! How long a function's life takes with the driver `containerd`, and with the driver `docker` on Docker sockets, in
//! alternating rounds, each from `create_cookie` to the end of `close`.
//!
//! ```text
//! cargo run --release --features docker --example driver_times -- ROUNDS [containerd=ROOT] [NAME=unix://SOCKET]...
//! ```
//!
//! `ROOT` is the directory of a private containerd (`fnctr --embedded --root ROOT`) that runs; the image `busybox` is
//! everywhere. Prints medians in milliseconds, and the ratio to the first.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fnctr::driver::{Config, Cookie, Driver, Error, ErrorKind, Status, Task};
use fnctr::embedded::{Embedded, Home};
use fnctr::{ContainerdDriver, Context, DockerDriver, DockerSettings, Settings};
use tokio::time::Instant;

const PHASES: [&str; 5] = ["create", "run", "wait", "close", "whole life"];
/// Rounds before the ones that count.
const WARM_UP: usize = 3;

/// A driver, and what each phase of each of its lives took.
struct Side {
    name: String,
    driver: Box<dyn Driver>,
    took: [Vec<Duration>; PHASES.len()],
}

#[tokio::main]
async fn main() -> ExitCode {
    match compare().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("driver_times: {why}");
            ExitCode::FAILURE
        }
    }
}

fn ctx() -> Context {
    Context::timeout(Duration::from_secs(60))
}

async fn compare() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().ok_or("how many rounds?")?.parse()?;
    let mut sides = Vec::new();
    for arg in args {
        let (name, place) = arg.split_once('=').ok_or("a side is NAME=PLACE")?;
        sides.push(Side {
            name: name.to_owned(),
            driver: connect(name, place).await?,
            took: Default::default(),
        });
    }
    for round in 0..WARM_UP + rounds {
        for side in &mut sides {
            let took = live(&*side.driver, format!("times-{}-{round}", std::process::id())).await?;
            if round >= WARM_UP {
                let all = side.took.iter_mut();
                all.zip(took).for_each(|(all, one)| all.push(one));
            }
        }
    }
    report(&mut sides);
    for side in sides {
        side.driver.close(&ctx()).await?;
    }
    Ok(())
}

async fn connect(name: &str, place: &str) -> Result<Box<dyn Driver>, Box<dyn std::error::Error>> {
    let config = Config::default();
    if name == "containerd" {
        // Shared with the server that uses it; given up with this process.
        let embedded = Embedded::start(&ctx(), &Home::under(Path::new(place))).await?;
        let driver = ContainerdDriver::connect(&ctx(), config, Settings::on(&embedded)).await?;
        return Ok(Box::new(driver));
    }
    let config = Config {
        docker: place.to_owned(),
        ..config
    };
    let driver = DockerDriver::connect(&ctx(), config, DockerSettings::default()).await?;
    Ok(Box::new(driver))
}

async fn live(driver: &dyn Driver, id: String) -> Result<[Duration; PHASES.len()], Error> {
    let task = Task {
        id,
        image: "busybox".to_owned(),
        command: "/bin/true".to_owned(),
        memory: 128 << 20,
        disable_net: true,
        ..Task::default()
    };
    let began = Instant::now();
    let cookie: Box<dyn Cookie> = driver.create_cookie(&ctx(), Arc::new(task)).await?;
    if cookie.validate_image(&ctx()).await? {
        cookie.pull_image(&ctx()).await?;
    }
    cookie.create_container(&ctx()).await?;
    let created = began.elapsed();
    let wait = cookie.run(&ctx()).await?;
    let started = began.elapsed();
    let ended = wait.wait(&ctx()).await;
    let waited = began.elapsed();
    cookie.close(&ctx()).await?;
    let whole = began.elapsed();
    if ended.status() != Status::Success {
        let why = format!("the function did not succeed: {:?}", ended.error());
        return Err(Error::new(ErrorKind::Internal, why));
    }
    Ok([
        created,
        started - created,
        waited - started,
        whole - waited,
        whole,
    ])
}

fn report(sides: &mut [Side]) {
    let median = |all: &mut Vec<Duration>| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let heading: String = sides.iter().map(|side| format!("{:>26}", side.name)).collect();
    println!("{:12}{heading}", "ms, median");
    for (phase, name) in PHASES.iter().enumerate() {
        let medians: Vec<f64> = sides
            .iter_mut()
            .filter_map(|side| side.took.get_mut(phase).map(median))
            .collect();
        let first = medians.first().copied().unwrap_or(f64::NAN);
        let columns: String = medians
            .iter()
            .map(|one| format!("{one:18.2} ({:4.2}x)", one / first))
            .collect();
        println!("{name:12}{columns}");
    }
}
