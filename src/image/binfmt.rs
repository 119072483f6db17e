//! binfmt_misc (binfmt-misc.rst): file formats that the kernel executes with the help of a program of the host.
//! Machines use it to run programs that were built for other machines.

use std::fs;
use std::path::Path;

use super::exec::HEAD;

/// The directory in which the kernel shows the handlers, if it is mounted.
pub(super) const DIR: &str = "/proc/sys/fs/binfmt_misc";

/// An enabled handler.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handler {
    /// The program that executes the file.
    pub(super) interpreter: String,
    /// Whether the interpreter was opened when the handler was registered, so that it need not be in the container
    /// (flag F).
    pub(super) is_fixed: bool,
    takes: Takes,
}

/// The files that a handler accepts.
#[derive(Debug, PartialEq, Eq)]
enum Takes {
    /// Files with these bytes at this offset, compared where the mask has bits.
    Magic {
        offset: usize,
        magic: Vec<u8>,
        mask: Vec<u8>,
    },
    /// Files with this text after the last dot of their name.
    Extension(String),
}

/// The enabled handlers of this kernel.
pub(super) fn handlers(dir: &Path) -> Vec<Handler> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    if read("status").trim() != "enabled" {
        return Vec::new();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !matches!(name.as_str(), "register" | "status"))
        .filter_map(|name| parse(&read(&name)))
        .collect()
}

fn parse(text: &str) -> Option<Handler> {
    let mut lines = text.lines();
    if lines.next()? != "enabled" {
        return None;
    }
    let (mut interpreter, mut is_fixed, mut extension) = (None, false, None);
    let (mut offset, mut magic, mut mask) = (0, None, None);
    for line in lines {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "interpreter" => interpreter = Some(value.to_owned()),
            "flags:" => is_fixed = value.contains('F'),
            "extension" => extension = Some(value.trim_start_matches('.').to_owned()),
            "offset" => offset = value.parse().ok()?,
            "magic" => magic = Some(bytes(value)?),
            "mask" => mask = Some(bytes(value)?),
            _ => {}
        }
    }
    let takes = match (extension, magic) {
        (Some(extension), _) => Takes::Extension(extension),
        (None, Some(magic)) => Takes::Magic {
            offset,
            mask: mask.unwrap_or_else(|| vec![0xff; magic.len()]),
            magic,
        },
        (None, None) => return None,
    };
    Some(Handler {
        interpreter: interpreter?,
        is_fixed,
        takes,
    })
}

/// Decodes hexadecimal digits, two per byte.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => Some((digit(high)? << 4) | digit(low)?),
            _ => None,
        })
        .collect()
}

impl Handler {
    /// Whether the kernel passes a file with this path and these first bytes to the handler.
    pub(super) fn takes(&self, path: &str, head: &[u8; HEAD]) -> bool {
        match &self.takes {
            Takes::Extension(extension) => path.rsplit_once('.').is_some_and(|(_, last)| last == extension),
            Takes::Magic { offset, magic, mask } => {
                let Some(there) = head.get(*offset..).and_then(|rest| rest.get(..magic.len())) else {
                    return false;
                };
                let mut compared = there.iter().zip(magic).zip(mask);
                compared.all(|((there, magic), mask)| (there ^ magic) & mask == 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::elf;
    use super::*;

    const ARM: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn head(bytes: &[u8]) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..bytes.len()].copy_from_slice(bytes);
        head
    }

    #[test]
    fn a_handler_takes_what_its_magic_and_mask_or_its_extension_say() {
        let arm = parse(ARM).unwrap();
        assert!(arm.is_fixed && arm.interpreter.ends_with("aarch64-binfmt-P"));
        let mut program = elf(183, None);
        assert!(arm.takes("/a", &head(&program)));
        program[16] = 3;
        assert!(arm.takes("/a", &head(&program)), "the mask leaves this bit out");
        assert!(!arm.takes("/a", &head(&elf(62, None))));
        let jar = parse("enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n").unwrap();
        assert!(!jar.is_fixed);
        assert!(jar.takes("/x/a.jar", &head(b"PK")) && !jar.takes("/x.jar/a", &head(b"PK")));
        let far = parse("enabled\ninterpreter /i\nflags: \noffset 255\nmagic 4142\n").unwrap();
        assert!(
            !far.takes("/a", &head(b"AB")),
            "it ends after what the kernel reads"
        );
    }

    #[test]
    fn what_is_disabled_or_makes_no_sense_is_no_handler() {
        for text in [
            "",
            "disabled\ninterpreter /i\nflags: F\nextension .x\n",
            "enabled\nflags: F\nextension .x\n",
            "enabled\ninterpreter /i\nflags: F\n",
            "enabled\ninterpreter /i\noffset 0\nmagic 4g\n",
            "enabled\ninterpreter /i\noffset 0\nmagic 414\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("register", "");
        write("qemu-aarch64", ARM);
        assert!(handlers(dir.path()).is_empty(), "nothing is mounted there");
        write("status", "disabled\n");
        assert!(handlers(dir.path()).is_empty());
        write("status", "enabled\n");
        assert_eq!(handlers(dir.path()), [parse(ARM).unwrap()]);
    }
}
