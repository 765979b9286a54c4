//! The order inside each crate: no circle between its rooms or its folders, and in `relay` every `use` points down.
//!
//! A room is a top-level module (`src/x.rs` with `src/x/`). `lib.rs` and `main.rs` are the door and may use every room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use freehold_tests::paths::workspace;

use crate::house::{code, members, read};

/// Rooms of a crate on the same floor, the lowest floor first. A room may use rooms on lower floors only.
const FLOORS: &[(&str, &[&[&str]])] = &[(
    "relay",
    &[
        &["backoff", "environment", "error", "panics"],
        &["event"],
        &["log"],
        &["database"],
        &["outbox"],
        &["consume", "publish"],
        &["operate"],
        &["nats", "testing"],
    ],
)];

/// `["relay", "contact"]`; the door is empty.
type Module = Vec<String>;
/// Which modules each module uses.
type Uses = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn no_crate_has_a_circle_of_rooms_or_of_files_in_different_folders() {
    let found = |member: PathBuf| {
        let faults = faults(&uses(&member.join("src")));
        faults
            .into_iter()
            .map(move |fault| format!("{}: {fault}", member.display()))
    };
    let faults: Vec<_> = members().into_iter().flat_map(found).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_use_points_down() {
    for (name, floors) in FLOORS {
        let wrong = climbs(&uses(&workspace().join(name).join("src")), floors);
        assert!(wrong.is_empty(), "{name}: {}", wrong.join(", "));
    }
}

fn faults(uses: &Uses) -> BTreeSet<String> {
    let room = |module: &Module| module[..1].to_vec();
    let mut rooms = Uses::new();
    for (of, on) in uses {
        let others = on.iter().map(room).filter(|other| *other != room(of));
        rooms.entry(room(of)).or_default().extend(others);
    }
    let folders = |circle: &Vec<Module>| {
        let folders = circle.iter().map(|module| folder(module, uses));
        folders.collect::<BTreeSet<_>>().len()
    };
    let files = circles(uses)
        .into_iter()
        .filter(|circle| folders(circle) > 1);
    let named = |circle: Vec<Module>| {
        let names: Vec<_> = circle.iter().map(|module| module.join("/")).collect();
        format!("a circle of {}", names.join(", "))
    };
    circles(&rooms)
        .into_iter()
        .chain(files)
        .map(named)
        .collect()
}

/// A module with modules below it is its own folder.
fn folder(module: &Module, uses: &Uses) -> Module {
    let has_children = uses
        .keys()
        .any(|other| other.len() > module.len() && other.starts_with(module));
    module[..module.len() - usize::from(!has_children)].to_vec()
}

/// Sets of modules that all reach each other.
fn circles(uses: &Uses) -> BTreeSet<Vec<Module>> {
    let reached: BTreeMap<_, _> = uses
        .keys()
        .map(|module| (module, reach(module, uses)))
        .collect();
    let circle = |module| {
        let mutual = reached[module]
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(module)));
        mutual.cloned().collect::<Vec<Module>>()
    };
    uses.keys()
        .map(circle)
        .filter(|circle| circle.len() > 1)
        .collect()
}

fn reach(from: &Module, uses: &Uses) -> BTreeSet<Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = next.pop() {
        for used in uses.get(&module).into_iter().flatten() {
            if seen.insert(used.clone()) {
                next.push(used.clone());
            }
        }
    }
    seen
}

fn climbs(uses: &Uses, floors: &[&[&str]]) -> Vec<String> {
    let floor = |module: &Module| {
        floors
            .iter()
            .position(|rooms| rooms.contains(&module[0].as_str()))
    };
    let edges = uses
        .iter()
        .flat_map(|(of, on)| on.iter().map(move |on| (of, on)));
    let up = edges.filter(|(of, on)| of[0] != on[0] && floor(on) >= floor(of));
    let up = up.map(|(of, on)| format!("{} uses {}", of.join("/"), on.join("/")));
    let homeless = uses.keys().filter(|module| floor(module).is_none());
    up.chain(homeless.map(|module| format!("{} is on no floor", module.join("/"))))
        .collect()
}

/// Reads every module below `src` and resolves what it names of its own crate, also by a re-export of the door.
fn uses(src: &Path) -> Uses {
    let mut texts = BTreeMap::new();
    collect(src, &vec![], &mut texts);
    let door = texts.get(&vec![]).map_or("", String::as_str);
    let exports = door
        .split("pub use ")
        .skip(1)
        .filter_map(|rest| rest.split(';').next());
    let exports: BTreeMap<_, _> = exports
        .flat_map(|export| expanded(export, &vec![]))
        .filter_map(|path| Some((path.last()?.clone(), longest(path, &texts))))
        .collect();
    let room = |path: Module| match longest(path.clone(), &texts) {
        found if found.is_empty() => exports.get(path.first()?).cloned(),
        found => Some(found),
    };
    let used = |(module, text): (&Module, &String)| {
        let used = paths(text, module).into_iter().filter_map(room);
        let used = used
            .filter(|used| used != module && !used.is_empty())
            .collect();
        (module.clone(), used)
    };
    texts
        .iter()
        .filter(|(module, _)| !module.is_empty())
        .map(used)
        .collect()
}

fn collect(folder: &Path, at: &Module, texts: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let module = match name.as_str() {
            "mod" | "lib" | "main" => at.clone(),
            _ => at.iter().cloned().chain([name]).collect(),
        };
        if path.is_dir() {
            collect(&path, &module, texts);
        } else if path.extension().is_some_and(|end| end == "rs") {
            texts
                .entry(module)
                .or_default()
                .push_str(&code(&read(&path)).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Every path that begins with `crate`, `super` or `self`, in `use` lines with nested braces and inline, from the root.
fn paths(text: &str, module: &Module) -> Vec<Module> {
    let (mut paths, mut rest) = (Vec::new(), text);
    let words = ["crate::", "super::", "self::"];
    while let Some(start) = words.iter().filter_map(|word| rest.find(word)).min() {
        let alone = !rest[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let end = path_end(&rest[start..]);
        if alone {
            paths.extend(expanded(&rest[start..start + end], module));
        }
        rest = &rest[start + end..];
    }
    paths
}

/// Where the path at the start of the text ends: behind its braces, if it has any.
fn path_end(text: &str) -> usize {
    let mut depth = 0;
    let mut inside = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth > 0 || c == '}' || c.is_alphanumeric() || "_:".contains(c)
    };
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

/// `crate::{b, c::{d, e}}` is `b`, `c::d`, `c::e`.
fn expanded(path: &str, module: &Module) -> Vec<Module> {
    let Some((before, inner)) = path.split_once('{') else {
        return vec![absolute(path.trim(), module)];
    };
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    let mut depth = 0;
    let parts = inner.split(|c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts
        .flat_map(|part| expanded(&format!("{}{part}", before.trim()), module))
        .collect()
}

fn absolute(path: &str, module: &Module) -> Module {
    let begins = ["crate", "self", "super"]
        .iter()
        .any(|word| path.starts_with(word));
    let mut full = if begins { module.clone() } else { vec![] };
    for word in path.split("::") {
        match word {
            "crate" => full.clear(),
            "self" => {}
            "super" => drop(full.pop()),
            _ => full.extend(word.split(' ').next().map(str::to_owned)),
        }
    }
    full
}

/// The longest part of the path that is a module.
fn longest(mut path: Module, texts: &BTreeMap<Module, String>) -> Module {
    while !path.is_empty() && !texts.contains_key(&path) {
        path.pop();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(files: &[(&str, &str)]) -> Uses {
        let src = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let file = src.path().join(name);
            fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            fs::write(file, text).expect("written");
        }
        uses(src.path())
    }

    fn one(fault: &str) -> BTreeSet<String> {
        BTreeSet::from([fault.to_owned()])
    }

    #[test]
    fn rooms_in_a_circle_are_found_in_nested_braces_and_inline_paths() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::{\n    b::{X, Y as Z},\n    c::W,\n};"),
            ("b.rs", "fn f() -> super::a::V { make() }"),
            (
                "c.rs",
                "// use crate::a::V;\n#[cfg(test)]\nmod tests { use crate::a::V; }",
            ),
        ];
        assert_eq!(faults(&krate(&files)), one("a circle of a, b"));
    }

    #[test]
    fn files_of_one_folder_may_need_each_other_and_files_of_two_may_not() {
        let files = [
            ("a/mod.rs", "mod b; mod c; mod d;"),
            ("a/b.rs", "use super::c::X;"),
            ("a/c.rs", "use super::b::X;"),
            ("a/d/e.rs", "use crate::a::f::X;"),
            ("a/f.rs", "use super::d::e::X;"),
        ];
        assert_eq!(faults(&krate(&files)), one("a circle of a/d/e, a/f"));
    }

    #[test]
    fn a_name_taken_from_the_door_counts_as_its_room_and_a_use_that_climbs_is_found() {
        let files = [
            ("lib.rs", "pub use b::{X, Y};"),
            ("a.rs", "use crate::X;"),
            ("b.rs", "use crate::c::V;"),
            ("c.rs", ""),
        ];
        let uses = krate(&files);
        assert!(faults(&uses).is_empty());
        assert_eq!(climbs(&uses, &[&["c"], &["b"], &["a"]]), [""; 0]);
        assert_eq!(climbs(&uses, &[&["c"], &["a"], &["b"]]), ["a uses b"]);
    }
}
