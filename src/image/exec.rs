//! How the kernel treats a file that is to be executed: as a program for this machine, as a script, or with the error
//! "exec format error" (execve(2)). Pure: works on the contents of the file.
//!
//! An init, like a shell, passes a file that the kernel refuses to `/bin/sh`, and `/bin/sh` treats an empty file as
//! success. So the error is detected here, before there is a container.

use std::io;

/// How many bytes of a file the kernel examines (BINPRM_BUF_SIZE); the kernel uses the last one as a terminator.
pub(super) const HEAD: usize = 256;
/// The longest path of a loader, including the terminating zero.
const MAX_LOADER: u64 = 4096;
/// The most bytes of program headers; a larger table is refused.
const MAX_HEADERS: u64 = 1 << 16;

const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const PT_INTERP: u64 = 3;

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// A program for this machine, and the loader that it names.
    Program(Option<String>),
    /// A script, and the interpreter that it names.
    Script(String),
    /// Nothing that the kernel itself can execute.
    No(NoProgram),
}

/// Why the kernel returns "exec format error".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoProgram {
    /// The file has no bytes.
    #[error("it is empty")]
    Empty,
    /// The kernel does not recognise the first bytes.
    #[error("it is neither an ELF program nor a script that begins with \"#!\"")]
    Unknown,
    /// The first line names no interpreter.
    #[error("nothing follows the \"#!\" of its first line")]
    NoInterpreter,
    /// The first line does not end soon enough.
    #[error("the interpreter in its first line ends after the 255 bytes that the kernel reads")]
    LongLine,
    /// The program is for other machines.
    #[error("it is a program for {0} machines")]
    OtherMachine(String),
    /// The file is an object file, a core dump, or the like.
    #[error("it is an ELF file, but not a program")]
    NotLinked,
    /// The headers point outside of the file.
    #[error("its ELF headers are damaged, or it is cut short")]
    Damaged,
}

/// The programs that a machine can run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// The ELF machine numbers (e_machine) and widths of the programs that the machine runs or that its kernel may have
    /// been built to run as well. Empty if this is not known.
    runs: &'static [(u64, u32)],
    big_endian: bool,
}

impl Machine {
    /// The machine that this process runs on.
    pub(super) fn host() -> Self {
        let runs: &[_] = match std::env::consts::ARCH {
            "x86_64" => &[(62, 64), (62, 32), (3, 32), (6, 32)],
            "x86" => &[(3, 32), (6, 32)],
            "aarch64" => &[(183, 64), (40, 32)],
            "arm" => &[(40, 32)],
            "riscv64" => &[(243, 64), (243, 32)],
            "powerpc64" => &[(21, 64), (20, 32)],
            "s390x" => &[(22, 64), (22, 32)],
            "loongarch64" => &[(258, 64)],
            _ => &[],
        };
        Self {
            runs,
            big_endian: cfg!(target_endian = "big"),
        }
    }

    fn can_run(self, elf: &Elf, machine: u64) -> bool {
        self.runs.is_empty()
            || (self.big_endian == elf.big_endian && self.runs.contains(&(machine, elf.bits)))
    }
}

/// How the kernel of this machine treats a file. `read` fills the given buffer from an offset in the file, and returns
/// the number of bytes read.
pub(super) fn format(
    machine: Machine,
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Format> {
    let mut head = [0; HEAD];
    let length = fill(read, 0, &mut head)?;
    let known = head.get(..length).unwrap_or_default();
    Ok(match known {
        [] => Format::No(NoProgram::Empty),
        [b'#', b'!', ..] => match interpreter(&head) {
            Ok(interpreter) => Format::Script(interpreter),
            Err(why) => Format::No(why),
        },
        [0x7f, b'E', b'L', b'F', ..] => match program(machine, known, read)? {
            Ok(loader) => Format::Program(loader),
            Err(why) => Format::No(why),
        },
        _ => Format::No(NoProgram::Unknown),
    })
}

/// The first bytes of a file, padded with zeros, as the kernel compares them.
pub(super) fn head(read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    fill(read, 0, &mut head)?;
    Ok(head)
}

/// Reads until the buffer is full or the file ends.
fn fill(read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>, from: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match read(from.saturating_add(length as u64), rest)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// The interpreter in a first line, as load_script (fs/binfmt_script.c) finds it: after leading blanks, up to a blank,
/// a zero or the end of the line. If the line is longer than what the kernel reads, the interpreter must end within
/// that part.
fn interpreter(head: &[u8; HEAD]) -> Result<String, NoProgram> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let end = head.iter().position(|b| *b == b'\n');
    let line = head.get(2..end.unwrap_or(HEAD)).unwrap_or_default();
    let start = line.iter().position(|b| !blank(b));
    let name = start.and_then(|start| line.get(start..)).unwrap_or_default();
    let stop = name.iter().position(|b| blank(b) || *b == 0);
    if stop.is_none() && end.is_none() && !name.is_empty() {
        return Err(NoProgram::LongLine);
    }
    let name = name.get(..stop.unwrap_or(name.len())).unwrap_or_default();
    if name.is_empty() {
        return Err(NoProgram::NoInterpreter);
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Fields of an ELF file, in its byte order.
struct Elf {
    bits: u32,
    big_endian: bool,
}

impl Elf {
    fn number(&self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(len)?)?;
        let digit = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        Some(if self.big_endian {
            field.iter().fold(0, digit)
        } else {
            field.iter().rev().fold(0, digit)
        })
    }

    /// A field whose position and width differ in 32-bit programs.
    fn field(&self, bytes: &[u8], wide: (usize, usize), narrow: (usize, usize)) -> Option<u64> {
        let (at, len) = if self.bits == 64 { wide } else { narrow };
        self.number(bytes, at, len)
    }
}

/// The loader of a program for this machine (ELF specification, figures 1-3 and 2-1; load_elf_binary, fs/binfmt_elf.c).
fn program(
    machine: Machine,
    head: &[u8],
    read: &dyn Fn(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<Result<Option<String>, NoProgram>> {
    let damaged = || Ok(Err(NoProgram::Damaged));
    let (Some(class), Some(order)) = (head.get(4), head.get(5)) else {
        return damaged();
    };
    let elf = Elf {
        bits: if *class == 2 { 64 } else { 32 },
        big_endian: *order == 2,
    };
    let (Some(kind), Some(number)) = (elf.number(head, 16, 2), elf.number(head, 18, 2)) else {
        return damaged();
    };
    if !machine.can_run(&elf, number) {
        return Ok(Err(NoProgram::OtherMachine(name(&elf, number))));
    }
    if !matches!(kind, ET_EXEC | ET_DYN) {
        return Ok(Err(NoProgram::NotLinked));
    }
    let (Some(table), Some(size), Some(count)) = (
        elf.field(head, (0x20, 8), (0x1c, 4)),
        elf.field(head, (0x36, 2), (0x2a, 2)),
        elf.field(head, (0x38, 2), (0x2c, 2)),
    ) else {
        return damaged();
    };
    let right = if elf.bits == 64 { 56 } else { 32 };
    if size != right || count == 0 || size * count > MAX_HEADERS {
        return damaged();
    }
    let mut headers = vec![0; usize::try_from(size * count).unwrap_or_default()];
    if fill(read, table, &mut headers)? < headers.len() {
        return damaged();
    }
    for header in headers.chunks_exact(usize::try_from(size).unwrap_or(1)) {
        if elf.number(header, 0, 4) != Some(PT_INTERP) {
            continue;
        }
        let (Some(at), Some(length)) = (
            elf.field(header, (8, 8), (4, 4)),
            elf.field(header, (32, 8), (16, 4)),
        ) else {
            return damaged();
        };
        if !(2..=MAX_LOADER).contains(&length) {
            return damaged();
        }
        let mut loader = vec![0; usize::try_from(length).unwrap_or_default()];
        if fill(read, at, &mut loader)? < loader.len() || loader.pop() != Some(0) {
            return damaged();
        }
        let loader = loader.split(|b| *b == 0).next().unwrap_or_default();
        return Ok(Ok(Some(String::from_utf8_lossy(loader).into_owned())));
    }
    Ok(Ok(None))
}

/// The name of a machine as images use it, or its number.
fn name(elf: &Elf, machine: u64) -> String {
    let name = match (machine, elf.bits, elf.big_endian) {
        (62, ..) => "amd64",
        (3 | 6, ..) => "386",
        (183, _, false) => "arm64",
        (40, _, false) => "arm",
        (243, 64, _) => "riscv64",
        (21, _, false) => "ppc64le",
        (21, _, true) => "ppc64",
        (22, ..) => "s390x",
        (258, ..) => "loong64",
        (8, 64, false) => "mips64le",
        (8, 64, true) => "mips64",
        _ => return format!("other (ELF machine {machine})"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::elf;
    use super::*;

    const AMD64: Machine = Machine {
        runs: &[(62, 64), (3, 32)],
        big_endian: false,
    };

    fn of(bytes: &[u8]) -> Format {
        // One byte at a time, because a read may return less than was asked for.
        let read = |from: u64, into: &mut [u8]| {
            let found = bytes.get(usize::try_from(from).unwrap()).copied();
            Ok(found.map_or(0, |byte| {
                into[0] = byte;
                1
            }))
        };
        format(AMD64, &read).unwrap()
    }

    fn refused(bytes: &[u8]) -> NoProgram {
        match of(bytes) {
            Format::No(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_of_this_machine_is_recognised_with_its_loader() {
        assert_eq!(of(&elf(62, None)), Format::Program(None));
        let loader = "/lib64/ld-linux-x86-64.so.2";
        assert_eq!(
            of(&elf(62, Some(loader))),
            Format::Program(Some(loader.to_owned()))
        );
        let mut shared = elf(62, None);
        shared[16] = 3;
        assert_eq!(of(&shared), Format::Program(None), "position-independent");
        // This test itself is such a program, whatever the machine is.
        let own = std::fs::read("/proc/self/exe").unwrap();
        let read = |from: u64, into: &mut [u8]| {
            let rest = &own[usize::try_from(from).unwrap().min(own.len())..];
            let length = rest.len().min(into.len());
            into[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        };
        let own = format(Machine::host(), &read).unwrap();
        assert!(matches!(own, Format::Program(_)), "{own:?}");
    }

    #[test]
    fn both_widths_are_read_and_both_byte_orders() {
        let mut narrow = vec![0; 52 + 32];
        narrow[..6].copy_from_slice(b"\x7fELF\x01\x01");
        (narrow[16], narrow[18]) = (2, 3);
        (narrow[0x1c], narrow[0x2a], narrow[0x2c]) = (52, 32, 1);
        (narrow[52], narrow[52 + 4], narrow[52 + 16]) = (3, 84, 3);
        narrow.extend(b"/l\0");
        assert_eq!(of(&narrow), Format::Program(Some("/l".to_owned())));
        let mut big = elf(0, None);
        (big[5], big[17], big[19]) = (2, 2, 22);
        assert_eq!(refused(&big).to_string(), "it is a program for s390x machines");
    }

    #[test]
    fn each_reason_why_the_kernel_would_not_execute_a_file_is_distinguished() {
        assert_eq!(refused(b""), NoProgram::Empty);
        for unknown in [
            &b"echo hello\n"[..],
            b"\n#!/bin/sh\n",
            b"\xef\xbb\xbf#!/bin/sh\n",
            b"MZ",
            b"#",
            b"\x7fELD",
        ] {
            assert_eq!(refused(unknown), NoProgram::Unknown, "{unknown:?}");
        }
        assert_eq!(
            refused(&elf(183, None)),
            NoProgram::OtherMachine("arm64".to_owned())
        );
        assert_eq!(
            refused(&elf(99, None)).to_string(),
            "it is a program for other (ELF machine 99) machines"
        );
        let mut object = elf(62, None);
        object[16] = 1;
        assert_eq!(refused(&object), NoProgram::NotLinked);
        let whole = elf(62, Some("/lib/ld.so"));
        for length in 4..whole.len() {
            assert_eq!(refused(&whole[..length]), NoProgram::Damaged, "{length} bytes");
        }
        for (at, value) in [(0x36, 32), (0x38, 0), (0x24, 0xff)] {
            let mut damaged = elf(62, Some("/l"));
            damaged[at] = value;
            assert_eq!(refused(&damaged), NoProgram::Damaged, "{at:#x}");
        }
    }

    #[test]
    fn the_interpreter_is_what_the_kernel_takes_for_it() {
        let script = |line: &str| of(line.as_bytes());
        for (line, interpreter) in [
            ("#!/bin/sh\necho", "/bin/sh"),
            ("#!/bin/sh", "/bin/sh"),
            ("#! \t/usr/bin/env -S a b\n", "/usr/bin/env"),
            ("#!bin/sh -e\n", "bin/sh"),
            ("#!/bin/sh\r\necho", "/bin/sh\r"),
            ("#!/bin/sh\t\n", "/bin/sh"),
            ("#!/bin/sh\0x\n", "/bin/sh"),
        ] {
            assert_eq!(script(line), Format::Script(interpreter.to_owned()), "{line:?}");
        }
        for none in ["#!", "#!\n/bin/sh\n", "#! \t \n"] {
            assert_eq!(refused(none.as_bytes()), NoProgram::NoInterpreter, "{none:?}");
        }
        // The interpreter must fit into 255 bytes together with what precedes it.
        let long = |length: usize| format!("#!/{}", "p".repeat(length - 3));
        for end in ["", "\n", " -x\n", "\t"] {
            let fits = script(&(long(255) + end));
            assert_eq!(fits, Format::Script(long(255)[2..].to_owned()), "{end:?}");
            assert_eq!(
                refused((long(256) + end).as_bytes()),
                NoProgram::LongLine,
                "{end:?}"
            );
        }
        let argument = script(&format!("#!/bin/sh {}", "a".repeat(300)));
        assert_eq!(argument, Format::Script("/bin/sh".to_owned()));
        assert_eq!(
            refused(&[b"#!".to_vec(), vec![b' '; 300]].concat()),
            NoProgram::NoInterpreter
        );
    }
}
