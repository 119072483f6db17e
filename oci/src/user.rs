//! The user of the process: `name[:group]`, resolved against the text of the image's passwd and group files.
//!
//! Docker's rules apply: a number is an id and never a name; an id need not be in a file; a user who is not in the file
//! has the group 0; an explicit group replaces the groups that the group file gives the user. One rule is stricter: a
//! line whose id is not a number is ignored. Docker reads such an id as 0, which is root's.

use oci_spec::runtime::User;

use crate::config::{ContainerConfig, ImageConfig};
use crate::error::Error;

/// The largest id that is accepted, as in Docker, for systems that treat ids as signed numbers.
const ID_MAX: u32 = i32::MAX.unsigned_abs();

/// The user of the container's process: the caller's choice, else the image's, else root.
pub(crate) fn resolve(config: &ContainerConfig, image: &ImageConfig) -> Result<User, Error> {
    let wanted = config.user.as_deref().unwrap_or(&image.user);
    let (passwd, group) = (image.passwd.as_deref(), image.group.as_deref());
    of(wanted, &config.additional_groups, passwd, group)
}

/// The user `wanted` by the text of the files, with additional groups.
pub(crate) fn of(
    wanted: &str,
    additional_groups: &[String],
    passwd: Option<&str>,
    group_file: Option<&str>,
) -> Result<User, Error> {
    let (name, group) = wanted.split_once(':').unwrap_or((wanted, ""));
    let identity = identity(name, passwd)?;
    let (gid, mut groups) = match group {
        "" => (identity.gid, memberships(identity.name, group_file)),
        group => (gid(group, group_file)?, Vec::new()),
    };
    for group in additional_groups {
        groups.push(self::gid(group, group_file)?);
    }
    let mut user = User::default();
    // The primary group is also a supplementary one; without it, a process could drop a group that denies access to a
    // file (CVE-2022-36109).
    user.set_uid(identity.uid)
        .set_gid(gid)
        .set_additional_gids(Some(unique(gid, groups)));
    Ok(user)
}

struct Identity<'a> {
    uid: u32,
    gid: u32,
    /// The user's name in the file, if the file contains the user.
    name: Option<&'a str>,
}

fn identity<'a>(name: &str, passwd: Option<&'a str>) -> Result<Identity<'a>, Error> {
    let id = if name.is_empty() { Some(0) } else { number(name)? };
    let found = passwd
        .into_iter()
        .flat_map(str::lines)
        .filter_map(passwd_entry)
        .find(|entry| match id {
            Some(uid) => entry.uid == uid,
            None => entry.name == Some(name),
        });
    match (found, id) {
        (Some(entry), _) => Ok(entry),
        (None, Some(uid)) => Ok(Identity {
            uid,
            gid: 0,
            name: None,
        }),
        (None, None) if passwd.is_none() => Err(Error::NoPasswd {
            user: name.to_owned(),
        }),
        (None, None) => Err(Error::UnknownUser {
            user: name.to_owned(),
        }),
    }
}

fn gid(group: &str, file: Option<&str>) -> Result<u32, Error> {
    if let Some(gid) = number(group)? {
        return Ok(gid);
    }
    let found = groups(file).find(|entry| entry.name == group && !group.is_empty());
    match found {
        Some(entry) => Ok(entry.gid),
        None if file.is_none() => Err(Error::NoGroupFile {
            group: group.to_owned(),
        }),
        None => Err(Error::UnknownGroup {
            group: group.to_owned(),
        }),
    }
}

/// The groups that list the user as a member.
fn memberships(name: Option<&str>, file: Option<&str>) -> Vec<u32> {
    let Some(name) = name else { return Vec::new() };
    groups(file)
        .filter(|entry| entry.members.split(',').any(|member| member == name))
        .map(|entry| entry.gid)
        .collect()
}

fn unique(gid: u32, groups: Vec<u32>) -> Vec<u32> {
    let mut unique = vec![gid];
    for gid in groups {
        if !unique.contains(&gid) {
            unique.push(gid);
        }
    }
    unique
}

/// Parses an id; `None` if the text is not a number, and so a name.
fn number(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(Error::IdRange { id: text.to_owned() }),
    }
}

/// `name:password:uid:gid:…`
fn passwd_entry(line: &str) -> Option<Identity<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Identity {
        uid,
        gid,
        name: Some(name),
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member`
fn groups(file: Option<&str>) -> impl Iterator<Item = Group<'_>> {
    file.into_iter().flat_map(str::lines).filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or_default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        app:x:1000:1000::/home/app:/bin/sh\n\
        # comment\n\
        \n\
        broken:x:abc:0:::\n\
        short:x\n\
        1000:x:7:7:::\n\
        other:x:1001:50:::\r\n";
    const GROUP: &str =
        "root:x:0:root\nwheel:x:10:root,app\napp:x:1000:\nusers:x:100:app,other\nbad:x:zz:app\n";

    fn image() -> ImageConfig {
        ImageConfig {
            passwd: Some(PASSWD.into()),
            group: Some(GROUP.into()),
            ..ImageConfig::default()
        }
    }

    fn of(user: &str, additional: &[&str], image: &ImageConfig) -> Result<(u32, u32, Vec<u32>), Error> {
        let config = ContainerConfig {
            user: Some(user.into()),
            additional_groups: additional.iter().map(|&group| group.to_owned()).collect(),
            ..ContainerConfig::default()
        };
        let user = resolve(&config, image)?;
        Ok((user.uid(), user.gid(), user.additional_gids().clone().unwrap()))
    }

    #[test]
    fn every_form_of_a_user_is_resolved() {
        for (user, uid, gid, groups) in [
            ("", 0, 0, vec![0, 10]),
            ("root", 0, 0, vec![0, 10]),
            ("0", 0, 0, vec![0, 10]),
            ("app", 1000, 1000, vec![1000, 10, 100]),
            ("app:", 1000, 1000, vec![1000, 10, 100]),
            ("1000", 1000, 1000, vec![1000, 10, 100]),
            ("app:users", 1000, 100, vec![100]),
            ("app:7", 1000, 7, vec![7]),
            ("1000:wheel", 1000, 10, vec![10]),
            ("4242", 4242, 0, vec![0]),
            ("4242:4343", 4242, 4343, vec![4343]),
            (":users", 0, 100, vec![100]),
            ("other", 1001, 50, vec![50, 100]),
        ] {
            assert_eq!(of(user, &[], &image()), Ok((uid, gid, groups)), "{user:?}");
        }
    }

    #[test]
    fn ids_need_no_file() {
        let bare = ImageConfig::default();
        assert_eq!(of("1000:1000", &["5"], &bare), Ok((1000, 1000, vec![1000, 5])));
        assert_eq!(of("", &[], &bare), Ok((0, 0, vec![0])));
        assert_eq!(of("app", &[], &bare), Err(Error::NoPasswd { user: "app".into() }));
        assert_eq!(
            of("0:users", &[], &bare),
            Err(Error::NoGroupFile {
                group: "users".into()
            })
        );
    }

    #[test]
    fn a_stranger_is_named_in_the_error() {
        assert_eq!(
            of("eve", &[], &image()),
            Err(Error::UnknownUser { user: "eve".into() })
        );
        assert_eq!(
            of("app:evil", &[], &image()),
            Err(Error::UnknownGroup { group: "evil".into() })
        );
        assert_eq!(
            of("app", &["evil"], &image()),
            Err(Error::UnknownGroup { group: "evil".into() })
        );
        assert_eq!(
            of("2147483648", &[], &image()),
            Err(Error::IdRange {
                id: "2147483648".into()
            })
        );
        assert_eq!(
            of("0:99999999999", &[], &image()),
            Err(Error::IdRange {
                id: "99999999999".into()
            })
        );
    }

    #[test]
    fn a_broken_line_never_makes_root() {
        assert_eq!(
            of("broken", &[], &image()),
            Err(Error::UnknownUser {
                user: "broken".into()
            })
        );
        assert_eq!(
            of("short", &[], &image()),
            Err(Error::UnknownUser { user: "short".into() })
        );
    }

    #[test]
    fn additional_groups_are_added_once() {
        assert_eq!(
            of("app", &["users", "9", "9"], &image()),
            Ok((1000, 1000, vec![1000, 10, 100, 9]))
        );
    }

    #[test]
    fn the_callers_user_wins_over_the_images() {
        let image = ImageConfig {
            user: "app".into(),
            ..image()
        };
        assert_eq!(resolve(&ContainerConfig::default(), &image).unwrap().uid(), 1000);
        assert_eq!(of("0", &[], &image).unwrap().0, 0);
    }
}
