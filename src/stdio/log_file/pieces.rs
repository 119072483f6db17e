//! Splits a stream into what becomes an entry each, as Docker does. Pure.

/// The longest text of an entry. A longer line becomes several entries.
pub(super) const LONGEST: usize = 16 << 10;

/// The part of the current line that has arrived and is no entry yet.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    begun: Vec<u8>,
    /// Whether a part of the current line has become an entry.
    is_continued: bool,
}

/// The text of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a [u8],
    /// Whether a newline has followed it.
    pub(super) ends_line: bool,
    /// Whether it is not the first part of its line.
    pub(super) is_continued: bool,
}

impl Pieces {
    /// Takes more of the stream, and passes on each text that is now complete.
    pub(super) fn take(&mut self, bytes: &[u8], mut piece: impl FnMut(Piece<'_>)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                // Most lines come at once.
                Some(text) if self.begun.is_empty() && text.len() < LONGEST => {
                    let is_continued = std::mem::take(&mut self.is_continued);
                    piece(Piece {
                        text,
                        ends_line: true,
                        is_continued,
                    });
                }
                Some(text) => {
                    self.add(text, &mut piece);
                    self.pass_on(true, &mut piece);
                }
                None => self.add(part, &mut piece),
            }
        }
    }

    /// Ends the stream: passes on the part that has arrived.
    pub(super) fn end(&mut self, mut piece: impl FnMut(Piece<'_>)) {
        if !self.begun.is_empty() {
            self.pass_on(false, &mut piece);
        }
    }

    fn add(&mut self, mut text: &[u8], piece: &mut impl FnMut(Piece<'_>)) {
        while self.begun.len() + text.len() >= LONGEST {
            let (fits, rest) = text.split_at(LONGEST - self.begun.len());
            self.begun.extend_from_slice(fits);
            self.pass_on(false, piece);
            text = rest;
        }
        self.begun.extend_from_slice(text);
    }

    fn pass_on(&mut self, ends_line: bool, piece: &mut impl FnMut(Piece<'_>)) {
        // The buffer is released and not only cleared, because most streams write nothing for most of their lives.
        let text = std::mem::take(&mut self.begun);
        let is_continued = std::mem::replace(&mut self.is_continued, !ends_line);
        piece(Piece {
            text: &text,
            ends_line,
            is_continued,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(parts: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool)> {
        let (mut pieces, mut found) = (Pieces::default(), Vec::new());
        let mut note =
            |piece: Piece<'_>| found.push((piece.text.to_owned(), piece.ends_line, piece.is_continued));
        for part in parts {
            pieces.take(part, &mut note);
        }
        pieces.end(&mut note);
        found
    }

    #[test]
    fn each_line_is_one_and_an_end_without_a_newline_shows_that() {
        let found = pieces(&[b"a\nb", b"c\n\n\nd"]);
        let texts: Vec<_> = found
            .iter()
            .map(|(text, ends, _)| (text.as_slice(), *ends))
            .collect();
        assert_eq!(
            texts,
            [
                (&b"a"[..], true),
                (b"bc", true),
                (b"", true),
                (b"", true),
                (b"d", false)
            ]
        );
        assert!(pieces(&[b""]).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_as_soon_as_it_is_that_long() {
        let sizes = |length: usize| {
            let line = [&vec![b'x'; length], &b"\ny\n"[..]].concat();
            let found = pieces(&[&line]);
            let sizes = found
                .into_iter()
                .map(|(text, ends, continued)| (text.len(), ends, continued));
            sizes.collect::<Vec<_>>()
        };
        assert_eq!(sizes(16383), [(16383, true, false), (1, true, false)]);
        assert_eq!(
            sizes(16384),
            [(16384, false, false), (0, true, true), (1, true, false)]
        );
        assert_eq!(
            sizes(40000),
            [
                (16384, false, false),
                (16384, false, true),
                (7232, true, true),
                (1, true, false)
            ]
        );
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_pieces_are_the_same(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cut in 0usize..200,
        ) {
            let (head, tail) = text.split_at(cut.min(text.len()));
            prop_assert_eq!(pieces(&[head, tail]), pieces(&[&text]));
            let mut joined = Vec::new();
            for (text, ends, _) in pieces(&[&text]) {
                joined.extend(text);
                joined.extend(ends.then_some(b'\n'));
            }
            prop_assert_eq!(joined, text);
        }
    }
}
