//! The layers of the crates: each module uses only what the table at the top of its `lib.rs` allows.
//!
//! The table is the text block with the columns `module`, `contents` and `may use`; the columns begin where their titles do. A
//! line without a name continues the one above. `may use` lists modules and crates of the workspace, `all` for every
//! module, `-` for none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The other crates of the workspace: as the tables name them, as the code does, and where they are.
const CRATES: [(&str, &str, &str); 2] = [
    ("vggt-model", "vggt_model::", "model/src"),
    ("vggt-refine", "vggt_refine::", "refine/src"),
];

/// What the table says of one module.
#[derive(Debug, Default)]
struct Row {
    contents: String,
    may_use: BTreeSet<String>,
}

/// The table at the top of a crate, and the modules that the crate declares.
#[derive(Debug)]
struct Map {
    src: PathBuf,
    /// Names in the order of the table.
    order: Vec<String>,
    rows: BTreeMap<String, Row>,
    /// False while the table has no column `may use`.
    has_arrows: bool,
    declared: BTreeSet<String>,
    /// Modules of the names that the crate re-exports at its root.
    reexports: BTreeMap<String, String>,
}

impl Map {
    fn read(src: &Path) -> Self {
        let text = fs::read_to_string(src.join("lib.rs")).unwrap();
        Self::parse(src, &text)
    }

    fn parse(src: &Path, text: &str) -> Self {
        let mut map = Self {
            src: src.to_owned(),
            order: Vec::new(),
            rows: BTreeMap::new(),
            has_arrows: false,
            declared: BTreeSet::new(),
            reexports: BTreeMap::new(),
        };
        let docs = text.lines().filter_map(|line| line.strip_prefix("//!"));
        let table = docs.skip_while(|line| line.trim() != "```text").skip(1);
        let mut arrows_at = None;
        for line in table.take_while(|line| line.trim() != "```") {
            let line = line.strip_prefix(' ').unwrap_or(line);
            if line.starts_with("module ") {
                arrows_at = line.find("may use");
                continue;
            }
            let (left, arrows) = match arrows_at {
                Some(at) if at < line.len() => line.split_at(at),
                _ => (line, ""),
            };
            let continues = left.starts_with(' ');
            if !continues {
                let name = left.split_whitespace().next().unwrap_or_default();
                map.order.push(name.to_owned());
            }
            let Some(name) = map.order.last() else {
                panic!("{line:?} continues no module");
            };
            let contents = left.strip_prefix(name.as_str()).unwrap_or(left).trim();
            let row = map.rows.entry(name.clone()).or_default();
            row.contents = format!("{} {contents}", row.contents).trim().to_owned();
            let arrows = arrows.split(',').map(str::trim);
            let arrows = arrows.filter(|arrow| !arrow.is_empty() && *arrow != "-");
            row.may_use.extend(arrows.map(str::to_owned));
        }
        map.has_arrows = arrows_at.is_some();
        for line in text.lines() {
            let item = line.strip_prefix("pub ").unwrap_or(line);
            if let Some(module) = item.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
                map.declared.insert(module.to_owned());
            }
        }
        for statement in text.split("pub use ").skip(1) {
            let statement = statement.split(';').next().unwrap_or_default();
            let words = statement.split(|c: char| !c.is_alphanumeric() && c != '_');
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            for name in words.iter().skip(1) {
                map.reexports
                    .insert((*name).to_owned(), words[0].to_owned());
            }
        }
        map
    }

    /// Returns every use of another module or crate, by file, module and target.
    fn uses(&self) -> BTreeSet<(PathBuf, String, String)> {
        let mut uses = BTreeSet::new();
        for module in &self.declared {
            let mut files = Vec::new();
            rust_files(&self.src.join(module), &mut files);
            rust_files(&self.src.join(format!("{module}.rs")), &mut files);
            for path in files.iter().filter(|path| path.exists()) {
                let text = fs::read_to_string(path).unwrap();
                for target in self.targets(&text) {
                    // Examples in a crate's documentation name the crate itself.
                    let own = CRATES
                        .iter()
                        .any(|(name, _, src)| target == *name && self.src.ends_with(src));
                    if target != *module && !own {
                        uses.insert((path.clone(), module.clone(), target));
                    }
                }
            }
        }
        uses
    }

    /// Returns the modules and crates that `text` names.
    fn targets(&self, text: &str) -> Vec<String> {
        let names = names_after_crate(text).into_iter();
        let modules = names.filter_map(|name| {
            let module = self.reexports.get(name).map_or(name, String::as_str);
            self.declared.contains(module).then(|| module.to_owned())
        });
        let mut targets: Vec<String> = modules.collect();
        let crates = CRATES.iter().filter(|(_, path, _)| text.contains(path));
        targets.extend(crates.map(|(name, ..)| (*name).to_owned()));
        targets
    }

    fn allows(&self, module: &str, target: &str) -> bool {
        self.rows.get(module).is_some_and(|row| {
            let all = row.may_use.contains("all") && self.declared.contains(target);
            all || row.may_use.contains(target)
        })
    }

    /// The table lists every module of the crate with what is in it, and nothing else.
    fn assert_complete(&self) {
        let listed: BTreeSet<_> = self.order.iter().cloned().collect();
        assert_eq!(listed, self.declared, "{}", self.src.display());
        assert_eq!(listed.len(), self.order.len(), "a module is listed twice");
        for (module, row) in &self.rows {
            assert!(!row.contents.is_empty(), "{module}");
        }
    }

    /// Every use is in the table, and everything in the table is used.
    fn assert_arrows(&self) {
        let uses = self.uses();
        let wrong: Vec<String> = uses
            .iter()
            .filter(|(_, module, target)| !self.allows(module, target))
            .map(|(path, module, target)| format!("{}: {module} -> {target}", path.display()))
            .collect();
        assert!(
            wrong.is_empty(),
            "the table in {} does not allow:\n{}",
            self.src.join("lib.rs").display(),
            wrong.join("\n")
        );
        let used: BTreeSet<_> = uses.into_iter().map(|(_, m, target)| (m, target)).collect();
        for (module, row) in &self.rows {
            for target in row.may_use.iter().filter(|target| *target != "all") {
                let arrow = (module.clone(), target.clone());
                assert!(used.contains(&arrow), "{module} does not use {target}");
            }
        }
    }

    /// No module uses itself by way of others.
    fn assert_acyclic(&self) {
        let mut open: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, row) in &self.rows {
            let targets = row.may_use.iter().map(String::as_str);
            let targets = targets.filter(|target| self.declared.contains(*target));
            open.insert(module, targets.collect());
        }
        while !open.is_empty() {
            let leaves: Vec<&str> = open
                .iter()
                .filter(|(_, targets)| targets.iter().all(|target| !open.contains_key(target)))
                .map(|(module, _)| *module)
                .collect();
            assert!(!leaves.is_empty(), "a cycle among {:?}", open.keys());
            open.retain(|module, _| !leaves.contains(module));
        }
    }
}

fn rust_files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            rust_files(&entry.unwrap().path(), found);
        }
    } else if path.extension().is_some_and(|e| e == "rs") {
        found.push(path.to_path_buf());
    }
}

/// Returns the name after each `crate::`, and each first name inside `crate::{a, b::c}`.
fn names_after_crate(text: &str) -> Vec<&str> {
    let ident = |s: &str| {
        s.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(s.len())
    };
    let mut names = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            names.push(&rest[..ident(rest)]);
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    let one = group[start..i].trim_start();
                    names.push(&one[..ident(one)]);
                    start = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    names
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn modules_use_only_what_their_table_allows() {
    let map = Map::read(&root().join("src"));
    assert!(map.has_arrows);
    map.assert_complete();
    map.assert_arrows();
    map.assert_acyclic();
    // The table is ordered from top to bottom.
    for (i, module) in map.order.iter().enumerate() {
        for above in &map.order[..i] {
            assert!(
                !map.rows[module].may_use.contains(above),
                "{module} -> {above} points up"
            );
        }
    }
}

#[test]
fn modules_of_the_other_crates_use_only_what_their_tables_allow() {
    for (_, _, src) in CRATES {
        let map = Map::read(&root().join(src));
        map.assert_complete();
        if map.has_arrows {
            map.assert_arrows();
            map.assert_acyclic();
        }
    }
}

#[test]
fn a_table_is_read_by_the_columns_of_its_titles() {
    let text = "//! A crate.\n//!\n//! ```text\n//! module  contents      may use\n//! a       the top,      all, vggt-model\n\
                //!         two lines\n//! b       the middle    c,\n//!                       vggt-model\n\
                //! c       the bottom    -\n//! ```\n\npub mod a;\nmod b;\npub mod c;\n\npub use c::{One, two::Two};\n";
    let map = Map::parse(Path::new("src"), text);
    map.assert_complete();
    assert_eq!(map.order, ["a", "b", "c"]);
    assert_eq!(map.rows["a"].contents, "the top, two lines");
    for (module, target, allowed) in [
        ("a", "b", true),
        ("a", "vggt-model", true),
        ("b", "c", true),
        ("b", "vggt-model", true),
        ("b", "a", false),
        ("c", "b", false),
        ("c", "vggt-model", false),
    ] {
        assert_eq!(map.allows(module, target), allowed, "{module} -> {target}");
    }
    let code = "use crate::{a::{x, b}, Two};\nlet y = crate::b::z(); // vggt_model::Vggt";
    assert_eq!(map.targets(code), ["a", "c", "b", "vggt-model"]);
    map.assert_acyclic();
}
