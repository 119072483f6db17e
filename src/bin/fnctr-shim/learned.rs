//! What the real shim answers to a `start`, learned from its own first answer.
//!
//! The form of the answer differs between versions of the shim, not between containers: the address alone (containerd 1.6,
//! 1.7), or a JSON object with a version (2.0). The first start after an installation is the real shim's; if its answer is
//! one of the known forms, with the very address that [`super::start`] expects, that form is noted beside this program, with
//! the identity of the shim's file. A replaced shim is asked again.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The forms of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The address; the shim's program also writes it into the file `address` of the bundle.
    Plain,
    /// `{"version":3,"address":ADDRESS,"protocol":"ttrpc"}`; containerd notes it.
    Version3,
}

const FORMS: [(Form, &str); 2] = [(Form::Plain, "plain"), (Form::Version3, "version3")];

impl Form {
    /// The answer of that form.
    pub(crate) fn answer(self, address: &str) -> String {
        match self {
            Self::Plain => address.to_owned(),
            Self::Version3 => format!(r#"{{"version":3,"address":"{address}","protocol":"ttrpc"}}"#),
        }
    }

    /// The form of an answer; `None` if it is none of these. `writes_address` says whether there is a file `address`.
    pub(crate) fn of(answer: &[u8], address: &str, writes_address: bool) -> Option<Self> {
        let mut forms = FORMS.iter().map(|(form, _)| *form);
        let form = forms.find(|form| form.answer(address).as_bytes() == answer)?;
        (writes_address == (form == Self::Plain)).then_some(form)
    }

    /// The form that was noted for this very shim.
    pub(crate) fn noted(shim: &Path) -> Option<Self> {
        Self::noted_in(&note()?, shim)
    }

    /// Notes the form. Without a note, which cannot be written everywhere, the next start is the real shim's again.
    pub(crate) fn note(self, shim: &Path) {
        if let Some(note) = note() {
            self.note_in(&note, shim);
        }
    }

    fn noted_in(note: &Path, shim: &Path) -> Option<Self> {
        let noted = fs::read_to_string(note).ok()?;
        let (name, of) = noted.split_once(' ')?;
        let form = FORMS.iter().find(|(_, known)| *known == name)?.0;
        (of == identity(shim)?).then_some(form)
    }

    fn note_in(self, note: &Path, shim: &Path) {
        let name = FORMS
            .iter()
            .find(|(form, _)| *form == self)
            .map_or("", |(_, name)| name);
        let Some(identity) = identity(shim) else { return };
        let part = note.with_extension(std::process::id().to_string());
        let written = fs::write(&part, format!("{name} {identity}")).and_then(|()| fs::rename(&part, note));
        if written.is_err() {
            drop(fs::remove_file(part));
        }
    }
}

/// What changes if the shim is replaced: by a package, or in place.
fn identity(shim: &Path) -> Option<String> {
    let file = shim.metadata().ok()?;
    let (seconds, part) = (file.ctime(), file.ctime_nsec());
    Some(format!(
        "{} {} {} {seconds}.{part}",
        file.dev(),
        file.ino(),
        file.size()
    ))
}

fn note() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.join(".shim-answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "unix:///run/containerd/s/ab";

    #[test]
    fn a_form_is_known_by_its_whole_answer() {
        for (form, _) in FORMS {
            let answer = form.answer(ADDRESS);
            assert_eq!(
                Form::of(answer.as_bytes(), ADDRESS, form == Form::Plain),
                Some(form)
            );
            assert_eq!(Form::of(answer.as_bytes(), ADDRESS, form != Form::Plain), None);
            assert_eq!(
                Form::of(
                    answer.as_bytes(),
                    "unix:///run/containerd/s/cd",
                    form == Form::Plain
                ),
                None
            );
            assert_eq!(Form::of(format!("{answer}\n").as_bytes(), ADDRESS, true), None);
        }
    }

    #[test]
    fn a_note_is_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (note, shim) = (dir.path().join("note"), dir.path().join("shim"));
        fs::write(&shim, "1").unwrap();
        assert_eq!(Form::noted_in(&note, &shim), None);
        for form in [Form::Plain, Form::Version3] {
            form.note_in(&note, &shim);
            assert_eq!(Form::noted_in(&note, &shim), Some(form));
        }
        fs::write(&shim, "22").unwrap();
        assert_eq!(Form::noted_in(&note, &shim), None, "it was replaced");
        Form::Plain.note_in(&note, &dir.path().join("none"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
