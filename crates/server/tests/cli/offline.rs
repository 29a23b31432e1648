//! What needs no server.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::program::{Program, hookfast};
use crate::support::nylas::{SECRET, notification, sign};

/// Every command that help lists, with the words that lead to it.
fn commands(path: &[&str]) -> Vec<Vec<String>> {
    let mut arguments = path.to_vec();
    arguments.push("--help");
    let help = hookfast(&arguments).done();
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.split("\n\n").next().unwrap_or_default();
    let name = |line: &str| {
        let rest = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let mut found = vec![path.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for name in listed.lines().filter_map(name).filter(|name| name != "help") {
        let inside: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        found.extend(commands(&inside));
    }
    found
}

#[test]
fn the_help_of_every_command_has_examples() {
    let commands = commands(&[]);
    assert!(commands.len() > 50, "{commands:?}");
    for command in commands {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = hookfast(&arguments).done();
        assert!(help.contains("Examples:\n  hookfast "), "{command:?}:\n{help}");
        let short = arguments.len() - 1;
        arguments[short] = "-h";
        assert!(hookfast(&arguments).done().contains("Examples:"), "{command:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_right() {
    let said = hookfast(&["evnt", "list"]);
    assert_eq!(said.code, 2);
    assert!(said.talk.contains("'event'"), "{}", said.talk);
    for wrong in [
        &[] as &[&str],
        &["source"],
        &["source", "create", "x"],
        &["event", "list", "--from", "yesterday"],
        &["event", "list", "--limit", "0"],
        &["delivery", "list", "--state", "lost"],
        &["destination", "create", "x", "--source", "y"],
        &["quarantine", "release"],
        &["quarantine", "release", "qrn_1", "--source", "x"],
        &["verify", "--provider", "nylsa", "--secret", "x"],
        &["verify", "--provider", "nylas"],
        &[
            "verify",
            "--provider",
            "nylas",
            "--secret",
            "x",
            "--header",
            "no colon",
        ],
        &["init", "nylsa"],
        &["completions", "tcsh"],
    ] {
        let said = hookfast(wrong);
        assert_eq!(said.code, 2, "{wrong:?}: {}", said.talk);
        assert!(said.data.is_empty() && !said.talk.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_server_that_is_not_there_ends_with_1_and_says_how_to_start_one() {
    let said = hookfast(&["source", "list", "--server", "http://127.0.0.1:9"]);
    assert_eq!(said.code, 1);
    assert!(
        said.talk
            .starts_with("error: nothing listens at http://127.0.0.1:9: start a server"),
        "{}",
        said.talk
    );
    let said = hookfast(&["source", "list", "--server", "127.0.0.1:8081"]);
    assert!(
        said.talk.contains("write it as http://127.0.0.1:8081"),
        "{}",
        said.talk
    );
}

/// The program verifying a request of Nylas.
fn verify(secret: &str, signature: impl Into<Vec<u8>>, body: &[u8]) -> (i32, String) {
    let header = [b"X-Nylas-Signature: ".to_vec(), signature.into()].concat();
    let said = Program::new(&["verify", "--provider", "nylas", "--secret", secret, "--header"])
        .argument(OsString::from_vec(header))
        .input(body)
        .run();
    assert!(said.talk.is_empty(), "{}", said.talk);
    (said.code, said.data)
}

#[test]
fn a_good_signature_is_valid_and_a_bad_one_is_told_with_its_cause() {
    let body = notification("evt_1");
    let signature = sign(SECRET, &body);
    assert_eq!(
        verify(SECRET, signature.as_str(), &body),
        (0, "valid\n".to_owned())
    );
    let changed = [body.as_slice(), b"\n"].concat();
    let garbage: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    for (secret, signature, body, reason) in [
        (
            "another",
            signature.clone().into_bytes(),
            &body,
            "check the secret first",
        ),
        (
            SECRET,
            signature.clone().into_bytes(),
            &changed,
            "without the line end at its end",
        ),
        (SECRET, signature.clone().into_bytes(), &garbage, "invalid: "),
        (
            SECRET,
            signature.to_uppercase().into_bytes()[..10].to_vec(),
            &body,
            "10 characters where 64",
        ),
        (SECRET, b"\xff\xfe not text".to_vec(), &body, "not plain ASCII"),
        (SECRET, Vec::new(), &body, "invalid: "),
        ("", signature.clone().into_bytes(), &body, "the secret is empty"),
        (
            &format!(" {SECRET}"),
            signature.clone().into_bytes(),
            &body,
            "white space around it",
        ),
    ] {
        let (code, said) = verify(secret, signature, body);
        assert_eq!(code, 1, "{said}");
        assert!(
            said.starts_with("invalid: ") && said.contains(reason),
            "{reason}: {said}"
        );
        assert!(!said.contains(SECRET), "{said}");
    }
    let missing = Program::new(&["verify", "--provider", "nylas", "--secret", SECRET])
        .input(&body)
        .run();
    assert_eq!(missing.code, 1);
    assert!(
        missing.data.contains("header x-nylas-signature is missing"),
        "{}",
        missing.data
    );
}

#[test]
fn verify_takes_several_secrets_a_time_and_a_scheme_of_ones_own() {
    let body = notification("evt_2");
    let signature = sign("new", &body);
    let header = format!("x-nylas-signature: {signature}");
    let arguments = [
        "verify",
        "--provider",
        "nylas",
        "--secret",
        "old",
        "--secret",
        "new",
        "--header",
        &header,
        "--json",
    ];
    let found = Program::new(&arguments).input(&body).run().json();
    assert_eq!(found, serde_json::json!({ "valid": true, "secret": 1 }));

    let header = format!("X-Sig: sha256={signature}");
    let arguments = [
        "verify",
        "--provider",
        "generic",
        "--scheme",
        "header=x-sig",
        "--scheme",
        "prefix=sha256=",
        "--secret",
        "new",
        "--header",
        &header,
    ];
    assert_eq!(Program::new(&arguments).input(&body).run().done(), "valid\n");

    let signature = sign("whsec_x", b"1700000000.{}");
    let header = format!("Stripe-Signature: t=1700000000,v1={signature}");
    let stripe = [
        "verify",
        "--provider",
        "stripe",
        "--secret",
        "whsec_x",
        "--header",
        &header,
        "--now",
    ];
    let at = |now: &str| Program::new(&stripe).argument(now).input(b"{}").run();
    assert_eq!(at("1700000100").done(), "valid\n");
    let late = at("1700001000");
    assert_eq!(late.code, 1);
    assert!(late.data.contains("its timestamp is 1000 s old"), "{}", late.data);
}

#[test]
fn a_configuration_for_every_provider_is_written_and_has_no_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let providers = hookfast(&["source", "providers", "--json"]).json();
    let slugs = providers
        .as_array()
        .unwrap()
        .iter()
        .map(|provider| provider["slug"].as_str().unwrap());
    for slug in slugs.chain(["generic"]) {
        let file = format!("{slug}.toml");
        let init = ["init", slug, "--output", &file];
        let said = Program::new(&init).within(directory.path()).run().done();
        assert!(said.contains(&format!("/in/{slug}")), "{said}");
        let check = ["config", "check", "--config", &file];
        assert!(
            Program::new(&check)
                .within(directory.path())
                .run()
                .done()
                .contains("no mistakes (1 source, ")
        );
        // With its secret set as it says, too.
        let path = directory.path().join(&file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# secrets = "), "{text}");
        let again = Program::new(&init).within(directory.path()).run();
        assert_eq!(again.code, 1);
        assert!(again.talk.contains("--force"), "{}", again.talk);
    }
}

#[test]
fn every_mistake_of_a_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("hookfast.toml"),
        "[server]\nlisten = \"nowhere\"\n[[source]]\nname = \"n\"\nprovider = \"nylsa\"\nsecret = \"x\"\n",
    )
    .unwrap();
    for arguments in [
        &["config", "check"] as &[&str],
        &["serve", "--check"],
        &["serve"],
        &["config", "show"],
    ] {
        let said = Program::new(arguments)
            .within(directory.path())
            .environment("HOOKFAST_TLS__CERT", "absent")
            .run();
        assert_eq!(said.code, 1, "{arguments:?}");
        for mistake in [
            "5 mistakes in the configuration",
            "hookfast.toml:2: server.listen: `nowhere` is not an address",
            "hookfast.toml:5: source.n.provider: `nylsa` is not known: did you mean `nylas`?",
            "hookfast.toml:6: source.n.secret: no such key; did you mean `secrets`?",
            "HOOKFAST_TLS__CERT: tls.cert: cannot read absent",
        ] {
            assert!(
                said.talk.contains(mistake),
                "{arguments:?}: {mistake}\n{}",
                said.talk
            );
        }
    }
}

#[test]
fn completions_and_man_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            hookfast(&["completions", shell]).done().contains("quarantine"),
            "{shell}"
        );
    }
    assert!(hookfast(&["man"]).done().contains(".TH hookfast 1"));
    assert!(hookfast(&["man", "event", "show"]).done().contains("SYNOPSIS"));
    assert_eq!(hookfast(&["man", "nothing"]).code, 1);
}

#[test]
fn a_directory_without_data_is_not_checked() {
    let directory = tempfile::tempdir().unwrap();
    let said = Program::new(&["check"]).within(directory.path()).run();
    assert_eq!(said.code, 1);
    assert!(said.talk.contains("holds no data"), "{}", said.talk);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_key_file_that_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("admin.key");
    std::fs::create_dir(&file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    let said = Program::new(&["source", "list", "--data"])
        .argument(directory.path())
        .run();
    assert_eq!(said.code, 1);
    assert!(said.talk.contains("cannot read the key in"), "{}", said.talk);
}

#[test]
fn nothing_is_coloured_where_nobody_sees_it() {
    let said = hookfast(&["source", "providers"]);
    assert!(!said.data.contains('\u{1b}'), "{}", said.data);
    assert!(said.raw.starts_with(b"SLUG"), "{}", said.data);
}

#[test]
fn a_reader_that_has_read_enough_is_no_fault() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_hookfast"))
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
