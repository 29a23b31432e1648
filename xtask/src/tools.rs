//! Owns the tools that the tests need beside cargo: finding them, installing what is missing by the ordinary package
//! managers, and saying where they are. It must not skip anything: what cannot be had is an error.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::output::{root, say};

/// A program of the system.
struct Tool {
    /// What it is, for people.
    what: &'static str,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    /// Whether it is there and good enough.
    is_there: fn() -> bool,
}

/// One row for each; a new tool is a new row.
const TOOLS: &[Tool] = &[
    Tool {
        what: "a C compiler (cc)",
        packages: &["gcc", "libc6-dev"],
        is_there: || succeeds("cc", &["--version"]),
    },
    Tool {
        what: "a C++ compiler (c++), for the fuzzer",
        packages: &["g++"],
        is_there: || succeeds("c++", &["--version"]),
    },
    Tool {
        what: "Python 3.9 or newer with venv (python3)",
        packages: &["python3", "python3-venv"],
        is_there: || {
            let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))";
            succeeds("python3", &["-c", check])
        },
    },
    Tool {
        what: "Node 18 or newer (node)",
        packages: &["nodejs"],
        is_there: || {
            let check = "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)";
            succeeds("node", &["-e", check])
        },
    },
    Tool {
        what: "npm",
        packages: &["npm"],
        is_there: || succeeds("npm", &["--version"]),
    },
];

/// What Python's tests import, in one environment.
const REQUIREMENTS: [&str; 3] = [
    "examples/flask-app/requirements.txt",
    "crates/server/tests/mail/requirements.txt",
    "crates/server/tests/nylas/requirements.txt",
];
/// What Node's tests require: where each list of packages stands, and the directory it is installed into.
const NODE_PACKAGES: [(&str, &str); 2] = [
    ("examples/express-app", "node"),
    ("crates/server/tests/nylas", "node-nylas"),
];

/// Finds or installs all of it, and gives the variables by which the tests find it.
pub(crate) fn provide(target: &Path) -> Result<Vec<(&'static str, OsString)>> {
    install_missing(TOOLS, install)?;
    let home = target.join("test-env");
    let python = python_environment(&home.join("python"))?;
    let modules = NODE_PACKAGES
        .iter()
        .map(|(packages, directory)| node_modules(packages, &home.join(directory)))
        .collect::<Result<Vec<_>>>()?;
    let modules = std::env::join_paths(modules).context("the target directory's path has a colon")?;
    Ok(vec![
        ("HOOKFAST_TEST_PYTHON", python.into()),
        ("HOOKFAST_TEST_NODE", "node".into()),
        ("HOOKFAST_TEST_NODE_PATH", modules),
    ])
}

/// Has the packages of all missing tools installed together, and looks again.
fn install_missing(tools: &[Tool], install: impl FnOnce(&[&str]) -> Result<()>) -> Result<()> {
    let missing = |tools: &[Tool]| -> Vec<usize> {
        let absent = tools.iter().enumerate().filter(|(_, tool)| !(tool.is_there)());
        absent.map(|(index, _)| index).collect()
    };
    let names = |indexes: &[usize]| -> String {
        let names: Vec<_> = indexes.iter().map(|index| tools[*index].what).collect();
        names.join(", ")
    };
    let before = missing(tools);
    if before.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = before
        .iter()
        .flat_map(|index| tools[*index].packages)
        .copied()
        .collect();
    say(&format!(
        "test: installing {} for {}",
        packages.join(" "),
        names(&before)
    ));
    install(&packages).with_context(|| {
        format!(
            "the tests need {}, which could not be installed; install it by hand",
            names(&before)
        )
    })?;
    let after = missing(tools);
    if !after.is_empty() {
        bail!(
            "the tests need {}; what the package manager installed is not good enough",
            names(&after)
        );
    }
    Ok(())
}

/// Installs Debian's packages, through sudo where this is not root.
fn install(packages: &[&str]) -> Result<()> {
    if !succeeds("apt-get", &["--version"]) {
        bail!("there is no apt-get on this machine");
    }
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = if is_root() {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        };
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        finish(&mut command)
    };
    apt(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A Python with the packages of the examples and the tests, made anew when they change.
fn python_environment(home: &Path) -> Result<PathBuf> {
    let mut requirements = String::new();
    for name in REQUIREMENTS {
        requirements += &fs::read_to_string(root().join(name)).context(name)?;
    }
    let python = home.join("bin/python");
    made_from(home, &requirements, || {
        finish(Command::new("python3").args(["-m", "venv"]).arg(home))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        for name in REQUIREMENTS {
            pip.arg("--requirement").arg(root().join(name));
        }
        finish(&mut pip)
    })?;
    Ok(python)
}

/// A directory of modules with the packages that are listed in `directory`, made anew when they change.
fn node_modules(directory: &str, home: &Path) -> Result<PathBuf> {
    let mut packages = String::new();
    for name in ["package.json", "package-lock.json"] {
        let path = root().join(directory).join(name);
        packages += &fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    }
    made_from(home, &packages, || {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(root().join(directory).join(name), home.join(name))?;
        }
        finish(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(home),
        )
    })?;
    Ok(home.join("node_modules"))
}

/// Makes the directory `home` by `make`, unless it was made from the same `origin` before. A directory that was left
/// half made has no stamp and is made anew.
fn made_from(home: &Path, origin: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = home.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == origin) {
        return Ok(());
    }
    say(&format!("test: making {}", home.display()));
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::create_dir_all(home)?;
    make()?;
    fs::write(stamp, origin)?;
    Ok(())
}

/// Runs a command to its end; what it says is shown.
fn finish(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} failed: {status}");
    }
    Ok(())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn tool(what: &'static str, packages: &'static [&'static str], is_there: fn() -> bool) -> Tool {
        Tool {
            what,
            packages,
            is_there,
        }
    }

    #[test]
    fn only_what_is_missing_is_installed_and_then_looked_for_again() {
        static INSTALLED: AtomicBool = AtomicBool::new(false);
        let tools = [
            tool("one", &["one-package"], || true),
            tool("two", &["two-package", "two-more"], || {
                INSTALLED.load(Ordering::SeqCst)
            }),
        ];
        let installed = install_missing(&tools, |packages| {
            assert_eq!(packages, ["two-package", "two-more"]);
            INSTALLED.store(true, Ordering::SeqCst);
            Ok(())
        });
        installed.unwrap();
        install_missing(&tools, |_| panic!("nothing is missing any more")).unwrap();
    }

    #[test]
    fn what_cannot_be_installed_is_an_error_that_names_it() {
        let tools = [tool("the tool", &["a-package"], || false)];
        let refused = install_missing(&tools, |_| bail!("no network")).unwrap_err();
        assert_eq!(
            format!("{refused:#}"),
            "the tests need the tool, which could not be installed; install it by hand: no network"
        );
        let useless = install_missing(&tools, |_| Ok(())).unwrap_err();
        assert!(
            useless.to_string().starts_with("the tests need the tool;"),
            "{useless}"
        );
    }

    #[test]
    fn a_directory_is_made_once_for_each_origin_and_anew_after_a_failure() {
        let home = std::env::temp_dir().join(format!("hookfast-xtask-{}", std::process::id()));
        let made = std::cell::Cell::new(0);
        let make = |origin: &str| {
            made_from(&home, origin, || {
                made.set(made.get() + 1);
                Ok(())
            })
        };
        make("a").unwrap();
        make("a").unwrap();
        assert_eq!(made.get(), 1);
        assert!(made_from(&home, "b", || bail!("cut")).is_err());
        make("b").unwrap();
        assert_eq!(made.get(), 2);
        fs::remove_dir_all(&home).unwrap();
    }
}
