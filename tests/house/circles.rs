//! No circles inside a folder: of two files or folders beside each other, at most one knows the other.
//!
//! The sources are parsed, so a path counts wherever it stands: in an import, a type or an expression. A name that a folder's
//! `mod.rs` re-exports counts for the file that it comes from. What `mod.rs` itself defines is the folder's, and open to all in it.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Path, UseTree};

/// A module's place in the crate: `engine::pool::keeper`.
type Place = Vec<String>;

/// Who knows whom, and by which path.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The paths of a file that stay inside the crate, from the crate's top.
struct Paths {
    here: Place,
    found: Vec<Place>,
}

impl Paths {
    fn of(place: &[String], text: &str) -> Self {
        let mut paths = Self {
            here: place.to_vec(),
            found: Vec::new(),
        };
        paths.visit_file(&syn::parse_file(text).expect("a source"));
        paths
    }

    fn add(&mut self, segments: &[String]) {
        let mut at = self.here.clone();
        let mut rest = segments;
        match segments.first().map(String::as_str) {
            Some("crate") => {
                at.clear();
                rest = &segments[1..];
            }
            Some("self") => rest = &segments[1..],
            Some("super") => {}
            _ => return,
        }
        while let Some((_, after)) = rest.split_first().filter(|(first, _)| *first == "super") {
            at.pop();
            rest = after;
        }
        at.extend(rest.iter().cloned());
        self.found.push(at);
    }

    fn tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before);
                before.pop();
            }
            UseTree::Name(name) if name.ident == "self" => self.add(before),
            UseTree::Name(name) => self.leaf(before, name.ident.to_string()),
            UseTree::Rename(name) => self.leaf(before, name.ident.to_string()),
            UseTree::Glob(_) => self.add(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }

    fn leaf(&mut self, before: &[String], name: String) {
        let whole: Vec<_> = before.iter().cloned().chain([name]).collect();
        self.add(&whole);
    }
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let tokens = attribute.meta.require_list().map(|list| list.tokens.to_string());
        attribute.path().is_ident("cfg") && tokens.is_ok_and(|tokens| tokens == "test")
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_of_tests(&item.attrs) {
            self.here.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_of_tests(&item.attrs) {
            self.tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.add(&segments.collect::<Vec<_>>());
        visit::visit_path(self, path);
    }
}

/// What the names in a folder stand for: each of its modules for itself, each name that its `mod.rs` takes out of one of them
/// for that one.
fn names(folder: &[String], modules: &BTreeSet<String>, facade: &str) -> BTreeMap<String, String> {
    let exported = Paths::of(folder, facade).found.into_iter().filter_map(|path| {
        let inside = path.strip_prefix(folder)?;
        let (module, name) = (inside.first()?, inside.last()?);
        (inside.len() > 1 && modules.contains(module)).then(|| (name.clone(), module.clone()))
    });
    let mut names: BTreeMap<_, _> = exported.collect();
    names.extend(modules.iter().map(|module| (module.clone(), module.clone())));
    names
}

/// The first circle that there is, as a sentence.
fn circle(graph: &Graph) -> Option<String> {
    fn follow<'g>(
        graph: &'g Graph,
        at: &'g str,
        way: &mut Vec<&'g str>,
        sound: &mut BTreeSet<&'g str>,
    ) -> bool {
        if sound.contains(at) {
            return false;
        }
        if let Some(began) = way.iter().position(|before| *before == at) {
            way.drain(..began);
            return true;
        }
        way.push(at);
        for next in graph.get(at).into_iter().flat_map(BTreeMap::keys) {
            if follow(graph, next, way, sound) {
                return true;
            }
        }
        way.pop();
        sound.insert(at);
        false
    }
    let mut sound = BTreeSet::new();
    for start in graph.keys() {
        let mut way = Vec::new();
        if follow(graph, start, &mut way, &mut sound) {
            let next = way.iter().skip(1).chain(way.first());
            let steps = way
                .iter()
                .zip(next)
                .map(|(from, to)| format!("{from} names {}", graph[*from][*to]));
            return Some(steps.collect::<Vec<_>>().join(", "));
        }
    }
    None
}

fn place(file: &str) -> Place {
    let inside = file.trim_start_matches("oci/").trim_start_matches("src/");
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    inside.split('/').map(str::to_owned).collect()
}

/// The circles in all folders of a crate, given its files.
fn circles(files: &BTreeMap<String, String>) -> Vec<String> {
    let sources: BTreeMap<Place, &String> = files.iter().map(|(file, text)| (place(file), text)).collect();
    let mut modules: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
    for place in sources.keys() {
        if let Some((module, folder)) = place.split_last() {
            modules.entry(folder.to_vec()).or_default().insert(module.clone());
        }
    }
    let mut graphs: BTreeMap<Place, Graph> = BTreeMap::new();
    let facades = modules.keys().filter(|folder| !folder.is_empty());
    let names: BTreeMap<Place, BTreeMap<String, String>> = facades
        .map(|folder| {
            let facade = sources.get(folder).map_or("", |text| text.as_str());
            (folder.clone(), names(folder, &modules[folder], facade))
        })
        .collect();
    for (place, text) in &sources {
        for path in Paths::of(place, text).found {
            for (folder, names) in &names {
                let (Some(from), Some(to)) =
                    (place.strip_prefix(&folder[..]), path.strip_prefix(&folder[..]))
                else {
                    continue;
                };
                let (Some(from), Some(to)) = (from.first(), to.first().and_then(|name| names.get(name)))
                else {
                    continue;
                };
                if from != to {
                    let edges = graphs
                        .entry(folder.clone())
                        .or_default()
                        .entry(from.clone())
                        .or_default();
                    edges.entry(to.clone()).or_insert_with(|| path.join("::"));
                }
            }
        }
    }
    let found = graphs.iter().filter_map(|(folder, graph)| {
        let circle = circle(graph)?;
        Some(format!("in {}: {circle}", folder.join("/")))
    });
    found.collect()
}

#[test]
fn no_two_files_of_a_folder_know_each_other() {
    let (oci, own): (BTreeMap<_, _>, BTreeMap<_, _>) = super::production()
        .into_iter()
        .partition(|(file, _)| file.starts_with("oci/"));
    let found: Vec<_> = [own, oci].iter().flat_map(circles).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_circle_is_found_whichever_way_its_files_name_each_other() {
    let of = |files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()));
        circles(&files.collect())
    };
    let facade = (
        "src/a/mod.rs",
        "mod b; mod c; mod d; pub(crate) use self::c::{self, Thing};",
    );
    let b = ("src/a/b.rs", "pub(super) struct B;");
    let line = [
        facade,
        b,
        ("src/a/c.rs", "use super::b::B; pub(super) struct Thing(B);"),
    ];
    assert_eq!(of(&line), [""; 0]);
    for back in [
        "use super::{c::Thing as Other, d};",
        "fn f() -> super::Thing { todo() }",
        "fn f() { crate::a::c::make(); }",
        "mod inside { use super::super::Thing; }",
    ] {
        let found = of(&[facade, ("src/a/b.rs", back), line[2]]);
        assert_eq!(found.len(), 1, "{back}: {found:?}");
        assert!(found[0].starts_with("in a: b names a::"), "{found:?}");
    }
    // A folder counts as one, whatever is inside, and what only tests import counts for nothing.
    let deep = [
        facade,
        ("src/a/b/mod.rs", "mod x;"),
        ("src/a/b/x.rs", "use crate::a::Thing;"),
        line[2],
    ];
    assert_eq!(of(&deep).len(), 1);
    let tests = "#[cfg(test)]\nuse super::Thing;\n#[cfg(test)]\nmod tests { use crate::a::Thing; }";
    assert_eq!(of(&[facade, ("src/a/b.rs", tests), line[2]]), [""; 0]);
}
