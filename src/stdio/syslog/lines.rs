//! Splits a stream of bytes into lines. Pure; does not interpret the bytes of a line.

/// The longest line, as in Docker. A longer one is split at this number of bytes.
const LONGEST: usize = 16 << 10;

/// The part of the current line that has arrived.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes more of the stream, and passes on each line that is now complete, without its newline. Empty lines are
    /// left out, as Docker does.
    pub(super) fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                // Most lines come in one piece.
                Some(text) if self.begun.is_empty() && text.len() <= LONGEST => {
                    if !text.is_empty() {
                        line(text);
                    }
                }
                Some(text) => {
                    self.add(text, &mut line);
                    self.end(&mut line);
                }
                None => self.add(piece, &mut line),
            }
        }
    }

    /// Ends the stream or the line: passes on the part that has arrived.
    pub(super) fn end(&mut self, mut line: impl FnMut(&[u8])) {
        // The buffer is released and not only cleared, because most streams write nothing for most of their lives.
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            line(&begun);
        }
    }

    fn add(&mut self, mut text: &[u8], line: &mut impl FnMut(&[u8])) {
        while self.begun.len() + text.len() > LONGEST {
            let (fits, rest) = text.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(fits);
            self.end(&mut *line);
            text = rest;
        }
        self.begun.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, |line| found.push(line.to_owned()));
        }
        lines.end(|line| found.push(line.to_owned()));
        found
    }

    #[test]
    fn lines_are_put_together_and_the_last_needs_no_newline() {
        assert_eq!(
            lines(&[b"a\nb", b"c\n\n", b"", b"\nd\r\n\0e"]),
            [&b"a"[..], b"bc", b"d\r", b"\0e"]
        );
        assert!(lines(&[b"\n", b"\n\n"]).is_empty());
    }

    #[test]
    fn a_line_of_the_longest_length_is_one_and_a_longer_one_is_several() {
        let sizes = |length: usize| {
            let line = [&vec![b'x'; length], &b"\ny\n"[..]].concat();
            lines(&[&line]).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(16384), [16384, 1]);
        assert_eq!(sizes(16385), [16384, 1, 1]);
        assert_eq!(sizes(40000), [16384, 16384, 7232, 1]);
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_lines_are_the_same(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let (head, tail) = text.split_at(cut.min(text.len()));
            let whole: Vec<_> = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(lines(&[head, tail]), whole);
        }
    }
}
