//! Documents name things that exist: paths, crates, `cargo xtask` commands and their options, and the targets of links.
//!
//! Checked are the Markdown files of the tree: what stands in backticks when it looks like a path or a crate of ours,
//! commands also inside code blocks, and links inside the tree with their anchors. Addresses elsewhere are not visited.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory as _;
use serde_json::Value;

use super::{Finding, SourceFile};

/// Endings that make a word in backticks the name of a file of ours.
const FILE_ENDINGS: [&str; 3] = [".rs", ".md", ".toml"];

/// A segment that stands for any name.
const PLACEHOLDER: &str = "NAME";

/// Everything a document may name.
pub(super) struct Names {
    /// Files and folders.
    paths: BTreeSet<String>,
    packages: BTreeSet<String>,
    /// Long options by task.
    tasks: BTreeMap<String, BTreeSet<String>>,
    /// Anchors of the headings by document.
    anchors: BTreeMap<String, BTreeSet<String>>,
}

/// Whether the file is a document to check.
pub(super) fn is_document(path: &str) -> bool {
    path.ends_with(".md")
}

impl Names {
    /// What exists: the tree's files and folders, the workspace's packages, this tool's commands, the documents' headings.
    pub(super) fn collect(files: &[String], metadata: &Value, texts: &[SourceFile]) -> Names {
        let mut paths: BTreeSet<String> = files.iter().cloned().collect();
        for file in files {
            paths.extend(file.match_indices('/').map(|(at, _)| file[..at].to_owned()));
        }
        let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let packages = packages.iter().filter_map(|package| package["name"].as_str().map(str::to_owned)).collect();
        let command = crate::Arguments::command();
        let tasks = command.get_subcommands().filter(|task| !task.is_hide_set()).map(|task| {
            let options = task.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned));
            (task.get_name().to_owned(), options.chain(["help".to_owned()]).collect())
        });
        let documents = texts.iter().filter(|file| is_document(&file.path));
        let anchors = documents.map(|file| (file.path.clone(), anchors(&file.text))).collect();
        Names { paths, packages, tasks: tasks.collect(), anchors }
    }

    /// Checks one document.
    pub(super) fn check(&self, file: &SourceFile) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut fenced = false;
        for (index, line) in file.text.lines().enumerate() {
            let mut complain = |name: &str, text: String| {
                found.push(Finding {
                    key: format!("{}::{name}", file.path),
                    place: format!("{}:{}", file.path, index + 1),
                    text,
                });
            };
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            self.check_commands(line, &mut complain);
            if fenced {
                continue;
            }
            // Between backticks is every second piece.
            for code in line.split('`').skip(1).step_by(2) {
                self.check_code(code, &mut complain);
            }
            let prose: Vec<&str> = line.split('`').step_by(2).collect();
            self.check_links(&file.path, &prose.join("`"), &mut complain);
        }
        found
    }

    fn check_commands(&self, line: &str, complain: &mut impl FnMut(&str, String)) {
        for (at, command) in line.match_indices("cargo xtask ") {
            let rest = line[at + command.len()..].split(['`', '#', '|', '&', ';', ')']).next().unwrap_or_default();
            let mut words = rest.split_whitespace();
            let Some(task) = words.next().map(|word| word.trim_end_matches(['.', ',', ':'])) else { continue };
            if !task.starts_with(|letter: char| letter.is_ascii_lowercase()) {
                continue;
            }
            let Some(options) = self.tasks.get(task) else {
                complain(task, format!("`cargo xtask {task}` is no task of this tree"));
                continue;
            };
            for option in words.filter_map(|word| word.strip_prefix("--")) {
                let option = option.split('=').next().unwrap_or_default().trim_end_matches(['.', ',', ':']);
                if !option.is_empty() && !options.contains(option) {
                    complain(&format!("--{option}"), format!("`cargo xtask {task}` has no option --{option}"));
                }
            }
        }
    }

    fn check_code(&self, code: &str, complain: &mut impl FnMut(&str, String)) {
        let is_name = |it: char| it.is_ascii_alphanumeric() || "._-*/".contains(it);
        if code.is_empty() || code.starts_with('/') || !code.chars().all(is_name) {
            return;
        }
        let is_crate = code.starts_with("meshwright-") && !code.contains(['.', '/', '*']);
        if is_crate && !self.packages.contains(code) {
            complain(code, format!("`{code}` is no crate of this workspace"));
        }
        let path = code.trim_end_matches('/');
        let first = path.split('/').next().unwrap_or_default();
        let ours = path.contains('/') && self.is_top_folder(first);
        let named = FILE_ENDINGS.iter().any(|ending| path.len() > ending.len() && path.ends_with(ending));
        if (ours || named) && !path.split('/').any(|segment| segment == PLACEHOLDER) && !self.exists(path) {
            complain(code, format!("`{code}` does not exist"));
        }
    }

    fn is_top_folder(&self, name: &str) -> bool {
        self.paths.contains(name)
            && self.paths.range(format!("{name}/")..).next().is_some_and(|it| it.starts_with(name))
    }

    /// Whether the tree has this path, from its root or from any folder; `*` stands for any part of one segment.
    fn exists(&self, wanted: &str) -> bool {
        let wanted: Vec<&str> = wanted.split('/').collect();
        self.paths.iter().any(|path| {
            let path: Vec<&str> = path.split('/').collect();
            let Some(skipped) = path.len().checked_sub(wanted.len()) else { return false };
            path[skipped..].iter().zip(&wanted).all(|(segment, pattern)| matches_pattern(segment, pattern))
        })
    }

    fn check_links(&self, document: &str, prose: &str, complain: &mut impl FnMut(&str, String)) {
        for (at, opening) in prose.match_indices("](") {
            let Some(target) = prose[at + opening.len()..].split(')').next() else { continue };
            let target = target.split_whitespace().next().unwrap_or_default();
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let resolved = if path.is_empty() { document.to_owned() } else { resolve(document, path) };
            if !self.paths.contains(&resolved) {
                complain(target, format!("the link to {target} leads nowhere"));
            } else if !anchor.is_empty() && self.anchors.get(&resolved).is_some_and(|anchors| !anchors.contains(anchor))
            {
                complain(target, format!("{resolved} has no heading for the anchor #{anchor}"));
            }
        }
    }
}

fn matches_pattern(segment: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => segment == pattern,
        Some((before, after)) => {
            segment.len() >= before.len() + after.len() && segment.starts_with(before) && segment.ends_with(after)
        }
    }
}

/// A link's path, seen from the root.
fn resolve(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors that Git forges make of headings: lower case, blanks to hyphens, other marks dropped, repeats numbered.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let heading = line.trim_start_matches('#');
        if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
        let slug: String = kept.flat_map(char::to_lowercase).map(|it| if it == ' ' { '-' } else { it }).collect();
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|slug| !found.contains(slug));
        found.extend(free);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let files = ["README.md", "docs/testing.md", "crates/model/src/host.rs", "crates/model/Cargo.toml", ".ci/run"];
        let files: Vec<String> = files.map(str::to_owned).to_vec();
        let metadata = serde_json::json!({ "packages": [{ "name": "meshwright-model" }] });
        let document = |path: &str, text: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
        let texts = [document("docs/testing.md", text), document("README.md", "# The `one` Thing\n# Again\n# Again\n")];
        let names = Names::collect(&files, &metadata, &texts);
        names.check(&texts[0]).into_iter().map(|finding| finding.key.replace("docs/testing.md::", "")).collect()
    }

    #[test]
    fn paths_in_backticks_exist() {
        let fine = "`crates/model`, `crates/*/src/`, `host.rs`, `model/src/host.rs`, `.ci/run`, `crates/NAME`, `/metrics`, `a/b`\n";
        assert_eq!(complaints(fine), [""; 0]);
        assert_eq!(complaints("`crates/gone`, `gone.rs`\n"), ["crates/gone", "gone.rs"]);
    }

    #[test]
    fn crates_in_backticks_exist() {
        assert_eq!(complaints("`meshwright-model` and `meshwright-gone`\n"), ["meshwright-gone"]);
    }

    #[test]
    fn commands_and_their_options_exist_also_in_code_blocks() {
        let text = "```\ncargo xtask bench --quick --peers ours # fast\ncargo xtask paint\n```\nRun `cargo xtask test --lang`.\n";
        assert_eq!(complaints(text), ["paint", "--lang"]);
        assert_eq!(complaints("`cargo xtask bench-load --hold`\n"), ["bench-load"]);
    }

    #[test]
    fn links_lead_somewhere() {
        let fine = "[a](../README.md), [b](../README.md#the-one-thing), [c](#here), [d](https://example.com/x), [e](../README.md#again-1)\n# Here\n";
        assert_eq!(complaints(fine), [""; 0]);
        assert_eq!(complaints("[a](gone.md) and [b](../README.md#gone)\n"), ["gone.md", "../README.md#gone"]);
    }
}
