//! `fnctr run`: one function from its image to its exit code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::At;
use super::connect::Connection;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::{Print, line, note};
use super::run_args::{PullPolicy, RunArgs};
use super::standard::{LineEnd, Standard};
use super::{network, pull};
use crate::containerd_driver::ContainerdCookie;
use crate::driver::{Cookie as _, Input, Output, RunResult, Stat, Status, Task};
use crate::engine::Custody;
use crate::{ByteSize, ContainerOptions, ContainerdDriver, Context};

/// What `timeout(1)` exits with.
const TIMED_OUT: u8 = 124;
/// 128 + SIGKILL: what a container that ran out of memory exits with everywhere.
const OUT_OF_MEMORY: u8 = 137;

/// What the last line of `run --json` says.
#[derive(Debug, Serialize)]
struct Report {
    id: String,
    image: String,
    status: &'static str,
    exit_code: Option<u32>,
    error: Option<String>,
    oom: bool,
    ms: Phases,
}

/// Milliseconds in each phase.
#[derive(Debug, Default, Serialize)]
struct Phases {
    validate: f64,
    pull: f64,
    create: f64,
    run: f64,
    wait: f64,
    close: f64,
}

/// Runs one container.
pub(super) async fn run(at: At<'_>, args: RunArgs, print: &Print) -> Result<ExitCode, Failure> {
    let line_end = LineEnd::new();
    let task = Arc::new(task(&args, &line_end, at.interrupt, print)?);
    let connection = Connection::open(at, |config| {
        config.enable_readonly_rootfs = args.read_only;
        config.max_tmpfs_inodes = args.tmpfs_inodes.unwrap_or_default();
        config.disable_unprivileged_containers = args.image_user;
        config.image_enable_volume = args.allow_volumes;
    })
    .await?;
    let result = match connection.driver.cookie(task) {
        Ok(cookie) => {
            let cookie = cookie.kept_for(Custody {
                detached: args.detach,
                limit: args.timeout,
            });
            live(at, &connection.driver, &cookie, &args, &line_end, print).await
        }
        Err(error) => Err(error.into()),
    };
    connection.close().await;
    result
}

/// From validation to close, whatever happens in between.
async fn live(
    at: At<'_>,
    driver: &ContainerdDriver,
    cookie: &ContainerdCookie,
    args: &RunArgs,
    line_end: &LineEnd,
    print: &Print,
) -> Result<ExitCode, Failure> {
    let ctx = at.interrupt.ctx();
    let mut ms = Phases::default();
    let started = start(ctx, driver, cookie, args, &mut ms).await;
    if args.detach && started.is_ok() {
        cookie.detach().await;
        print.result(
            &serde_json::json!({ "id": cookie.id(), "image": args.image() }),
            || cookie.id().to_owned(),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let result = match started {
        Ok(waiting) => {
            let bounded = args
                .timeout
                .map_or_else(|| ctx.clone(), |limit| ctx.with_timeout(limit));
            Ok(timed(&mut ms.wait, waiting.wait(&bounded)).await)
        }
        Err(failure) => Err(failure),
    };
    let closed = timed(&mut ms.close, cookie.close(ctx)).await;
    let result = result?;
    if print.is_json() && !line_end.is_clean() {
        line("");
    }
    report(cookie.id(), args, &result, ms, print);
    // The function's result is the result; what is left behind is no part of it, and the next command removes it.
    if let Err(error) = closed {
        note(&format!(
            "fnctr: warning: {}; the next fnctr command tries again",
            error.report()
        ));
    }
    Ok(ExitCode::from(exit_code(&result, at.interrupt)))
}

async fn start(
    ctx: &Context,
    driver: &ContainerdDriver,
    cookie: &ContainerdCookie,
    args: &RunArgs,
    ms: &mut Phases,
) -> Result<Box<dyn crate::driver::WaitResult>, Failure> {
    {
        let cookie: &dyn crate::driver::Cookie = cookie;
        let mut chosen = Ok(());
        cookie.change_options(|options: &mut ContainerOptions| {
            chosen = network::choose(options, args);
            options.config.resources.oom_group = args.oom_group;
            if !args.command().is_empty() {
                // Word by word, as typed: the contract's command is one text, split on white space.
                options.config.command = Some(args.command().to_vec());
            }
        })?;
        chosen?;
    }
    if args.pull == PullPolicy::Always {
        timed(&mut ms.pull, pull::watched(ctx, driver, args.image())).await?;
    }
    if timed(&mut ms.validate, cookie.validate_image(ctx)).await? {
        if args.pull == PullPolicy::Never {
            return Err(Failure::usage(format!(
                "image {} is not here, and --pull never forbids to pull it",
                args.image()
            )));
        }
        // Both are one transfer: the first to show it, the second because the cookie must know of it.
        let both = async { tokio::join!(pull::watched(ctx, driver, args.image()), cookie.pull_image(ctx)) };
        let (shown, pulled) = timed(&mut ms.pull, both).await;
        pulled?;
        shown?;
        cookie.validate_image(ctx).await?;
    }
    timed(&mut ms.create, cookie.create_container(ctx)).await?;
    Ok(timed(&mut ms.run, cookie.run(ctx)).await?)
}

async fn timed<T>(ms: &mut f64, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let out = work.await;
    // To a microsecond: what lies below is noise.
    *ms = (began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    out
}

fn report(id: &str, args: &RunArgs, result: &RunResult, ms: Phases, print: &Print) {
    let error = result.error().map(|error| crate::chain(error));
    if print.is_json() {
        print.json(&Report {
            id: id.to_owned(),
            image: args.image().to_owned(),
            status: result.status().as_str(),
            exit_code: result.exit_code(),
            error,
            oom: result.oom().is_some(),
            ms,
        });
    } else if let Some(error) = error
        && !matches!(result.status(), Status::Error if result.exit_code().is_some_and(|code| code != 0))
    {
        // A function's own exit code speaks for itself; anything else deserves words.
        note(&format!("fnctr: {id}: {error}"));
    }
}

fn exit_code(result: &RunResult, interrupt: &Interrupt) -> u8 {
    match result.status() {
        Status::Timeout => TIMED_OUT,
        Status::Cancelled => interrupt.code(),
        _ if result.oom().is_some() => OUT_OF_MEMORY,
        Status::Success | Status::Running => 0,
        Status::Error | Status::Killed => result
            .exit_code()
            .filter(|code| *code != 0)
            .map_or(super::OWN_FAILURE, |code| u8::try_from(code).unwrap_or(u8::MAX)),
    }
}

fn task(args: &RunArgs, line_end: &LineEnd, interrupt: &Interrupt, print: &Print) -> Result<Task, Failure> {
    let print = *print;
    if args.tmpfs_inodes.is_some() && args.tmpfs_size.is_none() && !args.read_only {
        return Err(Failure::usage(
            "--tmpfs-inodes needs --tmpfs-size or --read-only: there is no tmpfs without",
        ));
    }
    let id = args.name.as_ref().map_or_else(made_up_name, ToString::to_string);
    let (uds_docker_path, uds_docker_dest) = match &args.uds {
        Some(uds) => {
            let (dir, dest) = pair("--uds", uds)?;
            (Some(dir), Some(dest))
        }
        None => (None, None),
    };
    let streamed = |output: Output| {
        if args.detach {
            Output::Null.into()
        } else {
            output.into()
        }
    };
    Ok(Task {
        id,
        image: args.image().to_owned(),
        env_vars: environment(args)?,
        input: if args.interactive {
            Input::from_reader(tokio::io::stdin())
        } else {
            Input::Null
        }
        .into(),
        stdout: streamed(Output::to_writer(Standard::new(
            tokio::io::stdout(),
            line_end,
            interrupt,
        ))),
        stderr: streamed(Output::to_writer(tokio::io::stderr())),
        stats: args
            .stats
            .then(|| Arc::new(move |stat: Stat| note(&describe(&stat, print))) as _),
        volumes: args
            .volume
            .iter()
            .map(|text| volume(text))
            .collect::<Result<_, _>>()?,
        memory: args.memory.unwrap_or_default().0,
        cpus: args.cpus.unwrap_or_default().0,
        pids: args.pids.unwrap_or_default(),
        fs_size: megabytes(args.fs_size),
        tmpfs_size: megabytes(args.tmpfs_size),
        open_files: args.open_files,
        locked_memory: args.locked_memory.map(|size| size.0),
        pending_signals: args.pending_signals,
        message_queue: args.message_queue.map(|size| size.0),
        work_dir: args.workdir.clone(),
        uds_docker_path,
        uds_docker_dest,
        disable_net: args.network.is_none(),
        ..Task::default()
    })
}

fn megabytes(size: Option<ByteSize>) -> u64 {
    size.unwrap_or_default().0.div_ceil(1 << 20)
}

/// `SOURCE:DEST`, the source made absolute.
/// A pair, and a mode behind it, which the driver knows.
fn volume(text: &str) -> Result<(PathBuf, String), Failure> {
    match text.rsplit_once(':') {
        Some((bare, mode)) if !mode.starts_with('/') && bare.contains(":/") => {
            let (source, dest) = pair("--volume", bare)?;
            Ok((source, format!("{dest}:{mode}")))
        }
        _ => pair("--volume", text),
    }
}

fn pair(flag: &str, text: &str) -> Result<(PathBuf, String), Failure> {
    let bad = || {
        Failure::usage(format!(
            "{flag} {text:?} must be SOURCE:DEST, with DEST an absolute path in the container"
        ))
    };
    let (source, dest) = text.rsplit_once(':').ok_or_else(bad)?;
    if source.is_empty() || !dest.starts_with('/') {
        return Err(bad());
    }
    let source =
        std::path::absolute(source).map_err(|error| Failure::usage(format!("{flag} {text:?}: {error}")))?;
    Ok((source, dest.to_owned()))
}

fn environment(args: &RunArgs) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for file in &args.env_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read --env-file {}: {error}", file.display())))?;
        for line in text
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            set(&mut env, line)?;
        }
    }
    for line in &args.env {
        set(&mut env, line)?;
    }
    Ok(env)
}

/// `NAME=value`, or `NAME` for this process's value, which is left out if there is none.
fn set(env: &mut BTreeMap<String, String>, line: &str) -> Result<(), Failure> {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (line, std::env::var(line).ok()),
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(Failure::usage(format!(
            "{name:?} cannot be the name of an environment variable"
        )));
    }
    if let Some(value) = value {
        env.insert(name.to_owned(), value);
    }
    Ok(())
}

fn made_up_name() -> String {
    format!("fn-{:012x}", crate::driver::dice() & 0xffff_ffff_ffff)
}

fn describe(stat: &Stat, print: Print) -> String {
    if print.is_json() {
        return serde_json::json!({ "stats": stat }).to_string();
    }
    let metrics: Vec<_> = stat
        .metrics
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("stats: {}", metrics.join(" "))
}

/// `10s`, `1500ms`, `2m`, `1h`; a bare number is seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a time, such as 10s or 500ms"))?;
    let ms = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    ms.map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a time, such as 10s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "1d", "-1s", "99999999999999999h", "1.5s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_source_may_hold_colons_and_a_destination_must_be_absolute() {
        assert_eq!(pair("-v", "/a:b:/c").unwrap(), ("/a:b".into(), "/c".to_owned()));
        for bad in ["/a", ":/a", "/a:b", ""] {
            assert!(pair("-v", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_variables_are_not_empty_and_have_no_spaces() {
        let mut env = BTreeMap::new();
        for bad in ["", "=x", "export A=1", "A =1"] {
            assert!(set(&mut env, bad).is_err(), "{bad:?}");
        }
        set(&mut env, "A=b=c").unwrap();
        assert_eq!(env["A"], "b=c");
    }

    #[test]
    fn sizes_round_up_to_megabytes() {
        assert_eq!(megabytes(Some(ByteSize(1))), 1);
        assert_eq!(megabytes(Some(ByteSize(16 << 20))), 16);
        assert_eq!(megabytes(None), 0);
    }
}
