//! Crate edges: what Cargo says against the table of crates in ARCHITECTURE.md.
//!
//! A crate may import only what its row lists, and only from a lower rank; a pure crate has no dependency that brings
//! sockets, a runtime or files. Development dependencies may go to any crate of a rank that is not higher, and to crates
//! beside the ladder (those whose rank is not a number). It reads manifests, not code: a missing edge is a missing
//! dependency.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Finding;

/// The document with the table.
pub(super) const DOCUMENT: &str = "ARCHITECTURE.md";

/// Prefix of our package names; the table leaves it away.
const PREFIX: &str = "meshwright-";

/// What no pure crate may depend on: runtimes, sockets, file watching.
const IMPURE: [&str; 14] = [
    "arc-swap",
    "axum",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "libc",
    "mio",
    "notify",
    "rustix",
    "signal-hook",
    "socket2",
    "tokio",
    "tokio-util",
    "tonic",
];

/// A package of the workspace and its dependencies.
pub(super) struct Package {
    name: String,
    manifest: String,
    dependencies: Vec<(String, Kind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Development,
}

/// The packages of `cargo metadata --no-deps`.
///
/// # Errors
/// When the JSON is not what cargo documents.
pub(super) fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let root = metadata["workspace_root"].as_str().context("no workspace_root in cargo metadata")?;
    let list = metadata["packages"].as_array().context("no packages in cargo metadata")?;
    list.iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().unwrap_or_default();
            let dependencies = package["dependencies"].as_array().context("no dependencies in cargo metadata")?;
            let dependency = |entry: &Value| {
                let kind = if entry["kind"].as_str() == Some("dev") { Kind::Development } else { Kind::Normal };
                (entry["name"].as_str().unwrap_or_default().to_owned(), kind)
            };
            Ok(Package {
                name: package["name"].as_str().context("a package without a name")?.to_owned(),
                manifest: manifest.strip_prefix(root).unwrap_or(manifest).trim_start_matches('/').to_owned(),
                dependencies: dependencies.iter().map(dependency).collect(),
            })
        })
        .collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Imports {
    All,
    Listed(Vec<String>),
}

#[derive(Debug)]
struct Row {
    line: usize,
    /// None for crates beside the ladder.
    rank: Option<u32>,
    imports: Imports,
    pure: bool,
}

/// Compares the table with the packages.
pub(super) fn check(document: &str, packages: &[Package]) -> Vec<Finding> {
    let mut found = Vec::new();
    let rows = match parse(document) {
        Ok(rows) => rows,
        Err(text) => return vec![Finding { key: DOCUMENT.to_owned(), place: DOCUMENT.to_owned(), text }],
    };
    for (name, row) in &rows {
        let imports = match &row.imports {
            Imports::All => &[],
            Imports::Listed(names) => names.as_slice(),
        };
        for named in std::iter::once(name).chain(imports) {
            if !packages.iter().any(|package| short(&package.name) == named) {
                found.push(Finding {
                    key: format!("{DOCUMENT}::{named}"),
                    place: format!("{DOCUMENT}:{}", row.line),
                    text: format!("the table of crates names `{named}`, which is no crate of the workspace"),
                });
            }
        }
    }
    for package in packages {
        let complain = |text: String, other: &str| Finding {
            key: format!("{}::{other}", package.manifest),
            place: package.manifest.clone(),
            text,
        };
        let name = short(&package.name);
        let Some(row) = rows.get(name) else {
            found.push(complain(format!("crate `{name}` is missing in the table of {DOCUMENT}"), name));
            continue;
        };
        for (dependency, kind) in &package.dependencies {
            let verdict = if packages.iter().any(|other| other.name == *dependency) {
                judge_edge(name, row, short(dependency), &rows, *kind)
            } else if row.pure && *kind == Kind::Normal && IMPURE.contains(&dependency.as_str()) {
                Some(format!("crate `{name}` is pure and must not depend on {dependency}"))
            } else {
                None
            };
            found.extend(verdict.map(|text| complain(text, short(dependency))));
        }
    }
    found
}

fn judge_edge(name: &str, row: &Row, other: &str, rows: &BTreeMap<String, Row>, kind: Kind) -> Option<String> {
    let other_row = rows.get(other)?;
    match (kind, row.rank, other_row.rank) {
        (Kind::Development, _, None) | (Kind::Development, None, _) => None,
        (Kind::Development, Some(own), Some(its)) if its > own => {
            Some(format!("crate `{name}` (rank {own}) tests itself with `{other}` (rank {its}), which is higher"))
        }
        (Kind::Development, ..) => None,
        (Kind::Normal, Some(_), None) => Some(format!(
            "crate `{name}` depends on `{other}`, which stands beside the ladder and is for tests and tasks"
        )),
        (Kind::Normal, Some(own), Some(its)) if its >= own => Some(format!(
            "crate `{name}` (rank {own}) depends on `{other}` (rank {its}); edges go down the ladder only"
        )),
        (Kind::Normal, ..) => match &row.imports {
            Imports::Listed(names) if !names.iter().any(|listed| listed == other) => {
                Some(format!("crate `{name}` depends on `{other}`, which its row in {DOCUMENT} does not list"))
            }
            Imports::Listed(_) | Imports::All => None,
        },
    }
}

fn short(package: &str) -> &str {
    package.strip_prefix(PREFIX).unwrap_or(package)
}

/// The table whose header has the columns rank, crate, imports and pure.
fn parse(document: &str) -> Result<BTreeMap<String, Row>, String> {
    let mut lines = document.lines().enumerate();
    let columns = lines.by_ref().find_map(|(_, line)| header(&cells(line)));
    let Some([rank, name, imports, pure]) = columns else {
        return Err("there is no table of crates with the columns rank, crate, imports and pure".to_owned());
    };
    let mut rows = BTreeMap::new();
    for (index, line) in lines.skip(1) {
        if !line.trim_start().starts_with('|') {
            break;
        }
        let cells = cells(line);
        let cell = |column: usize| cells.get(column).map_or("", String::as_str);
        let row = Row {
            line: index + 1,
            rank: cell(rank).parse().ok(),
            imports: parse_imports(cell(imports)),
            pure: cell(pure).eq_ignore_ascii_case("yes"),
        };
        // A cell may name several crates of one kind: "`testkit`, `xtask`".
        for name in cell(name).split(',') {
            rows.insert(short(plain(name)).to_owned(), Row { imports: parse_imports(cell(imports)), ..row });
        }
    }
    Ok(rows)
}

fn cells(line: &str) -> Vec<String> {
    let line = line.trim();
    let Some(inner) = line.strip_prefix('|') else { return Vec::new() };
    inner.trim_end_matches('|').split('|').map(|cell| plain(cell).to_owned()).collect()
}

fn plain(cell: &str) -> &str {
    cell.trim().trim_matches('`').trim()
}

fn header(cells: &[String]) -> Option<[usize; 4]> {
    let column = |name: &str| cells.iter().position(|cell| cell.to_ascii_lowercase().starts_with(name));
    Some([column("rank")?, column("crate")?, column("imports")?, column("pure")?])
}

fn parse_imports(cell: &str) -> Imports {
    let cell = cell.split('(').next().unwrap_or_default().trim();
    match cell.to_ascii_lowercase().as_str() {
        "all" => Imports::All,
        "" | "-" | "–" | "—" | "none" | "nothing" | "nothing of ours" => Imports::Listed(Vec::new()),
        _ => Imports::Listed(cell.split(',').map(|name| short(plain(name)).to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# Crates
| rank | crate (`crates/NAME`) | one line | imports | pure |
|---|---|---|---|---|
| 0 | `model` | words | – | yes |
| 1 | `route` | routes | `model` | yes |
| 3 | `wire` | sockets | model | no |
| 5 | `meshwright` | binary | all | no |
| dev | `testkit`, `xtask` | tests | – | no |
";

    fn package(name: &str, normal: &[&str], development: &[&str]) -> Package {
        let all = normal.iter().map(|name| (*name, Kind::Normal));
        let all = all.chain(development.iter().map(|name| (*name, Kind::Development)));
        Package {
            name: name.to_owned(),
            manifest: format!("crates/{}/Cargo.toml", short(name)),
            dependencies: all.map(|(name, kind)| (name.to_owned(), kind)).collect(),
        }
    }

    fn workspace(route: Package) -> Vec<Package> {
        vec![
            package("meshwright-model", &[], &[]),
            route,
            package("meshwright-wire", &["meshwright-model", "tokio"], &[]),
            package("meshwright", &["meshwright-route", "meshwright-wire"], &["meshwright-testkit"]),
            package("meshwright-testkit", &["tokio"], &[]),
            package("xtask", &["tokio"], &[]),
        ]
    }

    fn texts(route: Package) -> Vec<String> {
        check(TABLE, &workspace(route)).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn listed_edges_downwards_are_fine() {
        assert_eq!(
            texts(package("meshwright-route", &["meshwright-model", "regex"], &["meshwright-testkit"])),
            [""; 0]
        );
    }

    #[test]
    fn an_edge_upwards_is_a_finding() {
        let texts = texts(package("meshwright-route", &["meshwright-wire"], &[]));
        assert!(texts[0].contains("edges go down the ladder only"), "{texts:?}");
    }

    #[test]
    fn an_edge_that_is_not_listed_is_a_finding() {
        let table = TABLE.replace("| sockets | model |", "| sockets | – |");
        let found = check(&table, &workspace(package("meshwright-route", &[], &[])));
        assert!(found[0].text.contains("does not list"), "{found:?}");
        assert_eq!(found[0].key, "crates/wire/Cargo.toml::model");
    }

    #[test]
    fn a_pure_crate_with_a_runtime_is_a_finding_unless_only_its_tests_use_it() {
        let texts = texts(package("meshwright-route", &["tokio"], &["hyper"]));
        assert_eq!(texts, ["crate `route` is pure and must not depend on tokio"]);
    }

    #[test]
    fn product_code_does_not_use_the_test_kit() {
        let texts = texts(package("meshwright-route", &["meshwright-testkit"], &[]));
        assert!(texts[0].contains("beside the ladder"), "{texts:?}");
    }

    #[test]
    fn crates_missing_in_the_table_or_in_the_workspace_are_findings() {
        let mut packages = workspace(package("meshwright-route", &[], &[]));
        packages.push(package("meshwright-extra", &[], &[]));
        packages.retain(|package| package.name != "xtask");
        let found = check(TABLE, &packages);
        assert!(found.iter().any(|finding| finding.text.contains("`xtask`, which is no crate")), "{found:?}");
        assert!(found.iter().any(|finding| finding.text.contains("`extra` is missing")), "{found:?}");
    }

    #[test]
    fn a_document_without_the_table_is_a_finding() {
        assert_eq!(check("# nothing", &[]).len(), 1);
    }
}
