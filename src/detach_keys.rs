//! The keys with which a user leaves a terminal and its program running. Pure.

/// Looks in the input of a terminal for the keys with which its client leaves.
#[derive(Debug, Clone)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have come, and are held back.
    matched: usize,
}

/// A part of the input, without the keys to detach.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) bytes: Vec<u8>,
    /// Whether the keys were pressed. What came after them is not passed on.
    pub(crate) is_detached: bool,
}

impl Default for DetachKeys {
    /// ctrl-p, ctrl-q, as in Docker.
    fn default() -> Self {
        Self {
            keys: vec![0x10, 0x11],
            matched: 0,
        }
    }
}

impl DetachKeys {
    /// Reads keys, such as `ctrl-p,ctrl-q`: single characters, or `ctrl-` and one. Empty text is the default. `None`
    /// for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let keys = text.split(',').map(key).collect::<Option<_>>()?;
        Some(Self { keys, matched: 0 })
    }

    /// Takes a part of the input.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for &byte in input {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
            } else {
                // What was held back was meant for the program, and so is this byte, as in Docker: the first key pressed
                // twice is the program's at once.
                typed.bytes.extend(self.keys.iter().take(self.matched));
                typed.bytes.push(byte);
                self.matched = 0;
            }
            if self.matched == self.keys.len() {
                self.matched = 0;
                typed.is_detached = true;
                return typed;
            }
        }
        typed
    }
}

/// The byte of a key.
fn key(text: &str) -> Option<u8> {
    let one = |text: &str| match text.as_bytes() {
        [only] => Some(*only),
        _ => None,
    };
    match (one(text), text.strip_prefix("ctrl-").and_then(one)) {
        _ if text == "DEL" => Some(0x7f),
        (Some(key), _) => Some(key).filter(u8::is_ascii),
        // A terminal sends the code of the letter without its upper bits (ascii(7)).
        (None, Some(key)) if key.is_ascii_lowercase() || b"@[\\]^_".contains(&key) => Some(key & 0x1f),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_single_characters_or_controls() {
        for (text, keys) in [
            ("", vec![16, 17]),
            ("a", vec![b'a']),
            ("ctrl-p,ctrl-q", vec![16, 17]),
            ("ctrl-@,x", vec![0, b'x']),
            ("ctrl-\\,ctrl-_", vec![28, 31]),
            ("DEL", vec![127]),
        ] {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, keys, "{text}");
        }
        for text in ["zzz", "ctrl-", "ctrl-Q", "ctrl-pq", "a,,b", "ctrl-a,zz", "ä"] {
            assert!(DetachKeys::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_keys_end_the_input_and_parts_of_them_are_passed_on() {
        let typed = |parts: &[&[u8]]| {
            let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
            let mut all = Typed::default();
            for part in parts {
                let one = keys.feed(part);
                all.bytes.extend(one.bytes);
                all.is_detached = one.is_detached;
            }
            (all.bytes, all.is_detached)
        };
        assert_eq!(typed(&[b"ls\x10\x11rest"]), (b"ls".to_vec(), true));
        assert_eq!(typed(&[b"a\x10", b"\x11"]), (b"a".to_vec(), true));
        assert_eq!(typed(&[b"a\x10", b"b"]), (b"a\x10b".to_vec(), false));
        assert_eq!(typed(&[b"\x10\x10"]), (b"\x10\x10".to_vec(), false));
        assert_eq!(typed(&[b"\x10\x10\x10", b"\x11"]), (b"\x10\x10".to_vec(), true));
        assert_eq!(typed(&[b"\x11\x11"]), (b"\x11\x11".to_vec(), false));
        assert_eq!(typed(&[b"\x10"]), (Vec::new(), false));
    }
}
