//! Keeps the generated parts of the documents in `docs/` equal to what the program says of itself.
//!
//! A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. When a test here fails, run it again
//! with MESHWRIGHT_WRITE_DOCUMENTS=1 and commit what it wrote.

use std::fmt::Write;
use std::path::Path;

use clap::CommandFactory;
use meshwright_config::FieldSupport;
use meshwright_model::FailureKind;

use crate::args::Cli;

/// Compares the part `name` of `document` with `expected`, or replaces it when asked to.
fn check(document: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (open, close) = (format!("<!-- generated: {name} -->\n"), "<!-- end -->");
    let start = text.find(&open).unwrap_or_else(|| panic!("{document} has no part {name}")) + open.len();
    let end = start + text[start..].find(close).unwrap_or_else(|| panic!("part {name} of {document} has no end"));
    let expected = format!("\n{}\n\n", expected.trim());
    if text[start..end] == expected {
        return;
    }
    assert!(
        std::env::var_os("MESHWRIGHT_WRITE_DOCUMENTS").is_some(),
        "part {name} of {document} is out of date; write it with \
         MESHWRIGHT_WRITE_DOCUMENTS=1 cargo test -p meshwright documents",
    );
    std::fs::write(&path, format!("{}{expected}{}", &text[..start], &text[end..])).unwrap();
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A table of the flags of `command` that `wanted` selects.
fn flags(command: &clap::Command, wanted: impl Fn(&clap::Arg) -> bool) -> String {
    let mut table = String::from("| Flag | Variable | Default | Meaning |\n|---|---|---|---|\n");
    for argument in command.get_arguments().filter(|argument| wanted(argument)) {
        let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else { continue };
        let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let value = argument.get_action().takes_values().then(|| argument.get_value_names()).flatten();
        let value = value.and_then(|names| names.first()).map(|name| format!(" {name}")).unwrap_or_default();
        let variable = argument.get_env().and_then(|name| name.to_str()).map(|name| format!("`{name}`"));
        let default = argument.get_default_values().first().and_then(|value| value.to_str());
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (help, stated) = match help.split_once(" [default: ") {
            Some((help, default)) => (help.to_owned(), default.trim_end_matches(']').to_owned()),
            None => (
                help,
                default
                    .filter(|_| argument.get_action().takes_values())
                    .map(|value| format!("`{value}`"))
                    .unwrap_or_default(),
            ),
        };
        writeln!(
            table,
            "| `{}` | {} | {} | {} |",
            cell(&format!("{short}--{long}{value}")),
            variable.unwrap_or_default(),
            cell(&stated),
            cell(&help),
        )
        .unwrap();
    }
    table
}

fn is_limit(argument: &clap::Arg) -> bool {
    argument.get_help_heading() == Some("Limits")
}

#[test]
fn the_flags_in_the_command_reference_are_the_flags_of_the_program() {
    let mut text = String::new();
    for command in Cli::command().get_subcommands() {
        let table = flags(command, |argument| !is_limit(argument));
        let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        writeln!(text, "### `{}`\n\n{}.", command.get_name(), command.get_about().unwrap()).unwrap();
        if !aliases.is_empty() {
            writeln!(text, "Also called {}, and `-t` or `-c`.", aliases.join(", ")).unwrap();
        }
        if table.lines().count() > 2 {
            writeln!(text, "\n{}", table.trim_end()).unwrap();
        }
        if command.has_subcommands() {
            writeln!(text, "\n| Form | What |\n|---|---|").unwrap();
        }
        for nested in command.get_subcommands() {
            let positional =
                nested.get_positionals().map(|argument| format!(" {}", argument.get_id().as_str().to_uppercase()));
            let optional = nested
                .get_opts()
                .filter(|argument| !argument.is_global_set())
                .filter_map(|argument| argument.get_long());
            let form: String = positional.chain(optional.map(|long| format!(" [--{long}]"))).collect();
            let name = format!("{} {}{form}", command.get_name(), nested.get_name());
            writeln!(text, "| `{name}` | {} |", nested.get_about().map(ToString::to_string).unwrap_or_default())
                .unwrap();
        }
        if command.get_arguments().any(is_limit) {
            writeln!(text, "\nand the limits of [limits.md](limits.md).").unwrap();
        }
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        writeln!(text, "\n```text\n{}\n```\n", examples.trim_end()).unwrap();
    }
    check("docs/cli.md", "commands", &text);
}

#[test]
fn the_table_of_limits_is_the_table_of_the_program() {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").unwrap();
    check("docs/limits.md", "limits", &flags(run, is_limit));
}

#[test]
fn the_supported_fields_are_those_of_the_reader() {
    let mut text = String::new();
    let kinds = meshwright_config::reference();
    for (index, kind) in kinds.iter().enumerate() {
        writeln!(text, "### {}\n\n{}\n\nRead as: `{}`.\n", kind.kind, kind.doc, kind.api_versions.join("`, `"))
            .unwrap();
        let paths =
            |kind: &meshwright_config::KindReference| kind.fields.iter().map(|of| of.path.clone()).collect::<Vec<_>>();
        if let Some(same) = kinds[..index].iter().find(|other| paths(other) == paths(kind)) {
            writeln!(text, "The fields are those of {}.\n", same.kind).unwrap();
            continue;
        }
        writeln!(text, "| Field | Type | Support | Meaning |\n|---|---|---|---|").unwrap();
        for field in &kind.fields {
            let support = match field.support {
                FieldSupport::Full => "yes",
                FieldSupport::Warned => "warning",
                FieldSupport::Refused => "error",
                FieldSupport::Ignored => "accepted",
            };
            let effect = field.effect.map(|effect| format!(" ({effect})")).unwrap_or_default();
            writeln!(
                text,
                "| `{}` | {} | {support} | {} |",
                cell(&field.path),
                cell(&field.type_name),
                cell(&format!("{}{effect}", field.doc)),
            )
            .unwrap();
        }
        text.push('\n');
    }
    check("docs/configuration.md", "fields", &text);
}

#[test]
fn the_table_of_failures_is_the_one_in_the_program() {
    let mut table = String::from("| Status | Flag | Details | Reason |\n|---|---|---|---|\n");
    for kind in FailureKind::ALL {
        let outcome = kind.outcome();
        let status = if outcome.status == 0 { "none".to_owned() } else { outcome.status.to_string() };
        let flag = if outcome.flag.is_empty() { "-" } else { outcome.flag };
        writeln!(table, "| {status} | {flag} | `{}` | {} |", outcome.details, cell(outcome.reason)).unwrap();
    }
    check("docs/operations.md", "failures", &table);
}
