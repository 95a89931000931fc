//! The command line as people and scripts meet it: help, exit codes, environment, findings.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::{meshwright, output};

const COMMANDS: [&str; 10] =
    ["run", "proxy", "echo", "demo", "validate", "endpoints", "log-level", "version", "completions", "man"];

const GOOD: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: api}
spec:
  selector: {istio: ingressgateway}
  servers:
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [api.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api.example.com]
  gateways: [api]
  http:
    - route:
        - destination: {host: users}
";

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn with_input(command: &mut Command, input: &str) -> (i32, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_command_has_help_with_examples() {
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let (code, text, _) = output(&mut meshwright(&[command, flag]));
            assert_eq!(code, 0, "{command} {flag}");
            assert!(text.contains("Usage: meshwright"), "{command} {flag}: {text}");
            assert!(text.contains("Examples:\n"), "{command} {flag}: {text}");
        }
    }
}

#[test]
fn the_long_help_documents_the_exit_codes() {
    let (code, text, _) = output(&mut meshwright(&["--help"]));
    assert_eq!(code, 0);
    for exit in ["0 ", "1 ", "2 ", "65 ", "79 "] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(exit)), "{exit} is missing in\n{text}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2_and_advice() {
    for (arguments, advice) in [
        (&["run"][..], "--file <PATH>"),
        (&["run", "-f", "x", "--map-port", "80"], "80=8080"),
        (&["run", "-f", "x", "--admin", "15000"], "`:15000`"),
        (&["run", "-f", "x", "--drain-timeout", "30"], "`30s`"),
        (&["run", "-f", "x", "--access-log", "xml"], "off, text, json"),
        (&["run", "-f", "x", "--log", "loud"], "off, error, warn"),
        (&["run", "-f", "x", "--service", "users"], "NAME=ADDR"),
        (&["proxy", "--to", "https://a:1"], "TLS"),
        (&["echo", "--fail", "120"], "0 to 100"),
        (&["endpoints", "drain", "a", "9001"], "`:9001`"),
        (&["rum"], "'run'"),
        (&[], "Usage:"),
    ] {
        let (code, _, error) = output(&mut meshwright(arguments));
        assert_eq!(code, 2, "{arguments:?}");
        assert!(error.contains(advice), "{arguments:?}: {error}");
    }
}

#[test]
fn the_version_is_said_in_text_and_json() {
    let expected = env!("CARGO_PKG_VERSION");
    assert_eq!(output(&mut meshwright(&["version"])).1, format!("meshwright {expected}\n"));
    assert_eq!(output(&mut meshwright(&["--version"])).1, format!("meshwright {expected}\n"));
    let json: serde_json::Value = serde_json::from_str(&output(&mut meshwright(&["version", "-o", "json"])).1).unwrap();
    assert_eq!(json["version"], expected);
}

#[test]
fn completions_exist_for_every_shell_and_know_the_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, script, _) = output(&mut meshwright(&["completions", shell]));
        assert_eq!(code, 0, "{shell}");
        assert!(script.contains("drain-timeout") && script.contains("validate"), "{shell}");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    let (code, _, error) = output(&mut meshwright(&["man", pages.to_str().unwrap()]));
    assert_eq!(code, 0, "{error}");
    for command in COMMANDS {
        let page = std::fs::read_to_string(pages.join(format!("meshwright-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Examples"), "{command}");
    }
    assert!(pages.join("meshwright-endpoints-drain.1").exists());
    let (code, page, _) = output(&mut meshwright(&["man"]));
    assert!(code == 0 && page.contains(".TH meshwright"), "{page}");
}

#[test]
fn clean_configuration_is_0() {
    let (_directory, path) = file("good.yaml", GOOD);
    let (code, text, error) = output(&mut meshwright(&["validate", "-f", &path, "--service", "users=:9001"]));
    assert_eq!(code, 0, "{text}{error}");
    assert!(
        text.starts_with("valid: 1 gateway, 1 virtual service, 0 destination rules, 1 service in 1 source"),
        "{text}"
    );
}

#[test]
fn warnings_only_is_79() {
    let (_directory, path) = file("good.yaml", GOOD);
    let (code, text, _) = output(&mut meshwright(&["validate", "-f", &path]));
    assert_eq!(code, 79, "{text}");
    assert!(text.contains("warning[IST0101]") && text.contains("valid with 1 warning"), "{text}");
}

#[test]
fn an_error_is_65_with_place_line_and_suggestion() {
    let (_directory, path) = file("bad.yaml", &GOOD.replace("  gateways: [api]", "  gatways: [api]"));
    let (code, text, _) = output(&mut meshwright(&["validate", "-f", &path, "--service", "users=:9001"]));
    assert_eq!(code, 65, "{text}");
    for part in [&format!("{path}:15:3"), "15 |   gatways: [api]", "^^^^^^^", "gateways", "not valid: 1 error"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let (code, text, _) = output(&mut meshwright(&["validate", "-f", "/nonexistent/mesh.yaml"]));
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("/nonexistent/mesh.yaml"), "{text}");
}

#[test]
fn findings_as_json_have_every_field() {
    let (_directory, path) = file("bad.yaml", &GOOD.replace("  gateways: [api]", "  gatways: [api]"));
    let (code, text, _) = output(&mut meshwright(&["validate", "-o", "json", "-f", &path, "--service", "users=:9001"]));
    assert_eq!(code, 65);
    let findings: serde_json::Value = serde_json::from_str(&text).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|finding| finding["severity"] == "error").unwrap();
    assert_eq!((&finding["line"], &finding["column"], &finding["length"]), (&15.into(), &3.into(), &7.into()));
    assert_eq!(finding["source"], path);
    assert_eq!(finding["object"]["kind"], "VirtualService");
    for field in ["code", "message", "path", "value", "allowed", "effect", "suggestion"] {
        assert!(finding.get(field).is_some(), "{field} is missing in {finding}");
    }
}

#[test]
fn clean_configuration_is_an_empty_list_in_json() {
    let (_directory, path) = file("good.yaml", GOOD);
    let (code, text, _) = output(&mut meshwright(&["validate", "-o", "json", "-f", &path, "--service", "users=:9001"]));
    assert_eq!((code, text.trim()), (0, "[]"));
}

#[test]
fn configuration_is_read_from_standard_input() {
    let mut command = meshwright(&["validate", "-f", "-", "--service", "users=:9001"]);
    let (code, text) = with_input(&mut command, GOOD);
    assert_eq!(code, 0, "{text}");
    let mut command = meshwright(&["validate", "-f", "-"]);
    let (code, text) = with_input(&mut command, "kind: [");
    assert!(code == 65 && text.contains("--> <stdin>:"), "{text}");
}

#[test]
fn several_files_and_directories_are_one_input() {
    let directory = tempfile::tempdir().unwrap();
    let (gateway, routes) = GOOD.split_once("---\n").unwrap();
    std::fs::create_dir(directory.path().join("mesh.d")).unwrap();
    std::fs::write(directory.path().join("gateway.yaml"), gateway).unwrap();
    std::fs::write(directory.path().join("mesh.d/routes.yml"), routes).unwrap();
    let mut command = meshwright(&["check", "-f", "gateway.yaml", "-f", "mesh.d", "--service", "users=:9001"]);
    let (code, text, _) = output(command.current_dir(directory.path()));
    assert!(code == 0 && text.contains("in 2 sources"), "{text}");
}

#[test]
fn flags_come_from_the_environment() {
    let (_directory, path) = file("good.yaml", GOOD);
    let mut command = meshwright(&["validate"]);
    command.env("MESHWRIGHT_FILE", format!("{path}:{path}")).env("MESHWRIGHT_SERVICE", "users=:9001 posts=:9002");
    let (code, text, error) = output(&mut command);
    assert_eq!(code, 0, "{text}{error}");
    assert!(text.contains("2 services in 1 source"), "{text}");
}

#[test]
fn colors_are_for_terminals_or_on_demand() {
    let (_directory, path) = file("bad.yaml", "kind: X\n");
    let plain = output(meshwright(&["validate", "-f", &path]).env_remove("NO_COLOR")).1;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let colored = output(&mut meshwright(&["validate", "-f", &path, "--color", "always"])).1;
    assert!(colored.contains('\u{1b}'), "{colored:?}");
}

#[test]
fn asking_a_process_that_is_not_there_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, error) = output(&mut meshwright(&["endpoints", "list", "--admin", &free.to_string()]));
    assert_eq!(code, 1);
    assert!(error.contains(&format!("no admin API answers at http://{free}")), "{error}");
}
