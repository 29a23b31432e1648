//! The configuration as a whole: layers, defaults and mistakes.

use std::path::Path;
use std::time::Duration;

use hookfast_engine::topology::{DedupeKey, DestinationKind};

use super::*;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn read_with(text: &str, environment: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookfast.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.path().join("secret.txt"), format!("{WHSEC}\n")).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let flags = Flags {
        config: Some(file),
        ..flags
    };
    Config::read(&flags, &environment).map_err(|mistakes| {
        let place = format!("{}/", directory.path().display());
        mistakes.to_string().replace(&place, "")
    })
}

fn read(text: &str) -> Result<Config, String> {
    read_with(text, &[], Flags::default())
}

/// The default file with the examples that have no default taken as written.
fn examples() -> String {
    let begins_key = |text: &str| {
        let word = text
            .bytes()
            .take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_')
            .count();
        word > 0 && text[word..].starts_with(" = ")
    };
    let uncommented = DEFAULTS.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || begins_key(rest) => rest,
        Some(_) | None => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_defaults_alone_are_a_configuration() {
    let config = read("").unwrap();
    assert_eq!(config.settings.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.settings.admin.to_string(), "127.0.0.1:8081");
    assert_eq!(config.settings.api, None);
    assert_eq!(config.settings.data, Path::new("./hookfast-data"));
    assert_eq!(config.settings.grace, Duration::from_secs(10));
    assert_eq!(config.settings.delivery.body_bytes, 64 << 20);
    assert_eq!(config.settings.quarantine.events, 10_000);
    assert_eq!(
        config.settings.retention.settled,
        Duration::from_secs(30 * 86_400)
    );
    assert!(config.settings.tls.is_none());
    assert!(
        matches!(&config.encryption_key, KeySource::File(file) if file.ends_with("hookfast-data/secret.key"))
    );
    assert!(config.declared.sources.is_empty());
}

#[test]
fn the_default_file_names_every_key_that_exists_and_no_other() {
    let environment = Environment::from([
        ("NYLAS_WEBHOOK_SECRET".into(), "x".into()),
        ("MY_APP_SECRET".into(), WHSEC.into()),
    ]);
    let place = |line| Place::File(Path::new("defaults").into(), line);
    let mut mistakes = Mistakes::default();
    let tree = layers::parse(&examples(), &place, &mut mistakes);
    let context = Context::new(&environment, mistakes);
    let root = Section::root(&context, &tree, place(0));
    drop((sections::read(&root), declare::read(&root)));
    root.finish();
    let mistakes = context.mistakes.into_inner().to_string();
    // Both schedules of a policy are shown, and only one may be used.
    assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
    assert!(
        mistakes.contains("policy.quick.first: delays are listed already"),
        "{mistakes}"
    );
    for key in context.known.into_inner() {
        let last = key.rsplit('.').next().unwrap();
        let written = [
            format!("\n{last} = "),
            format!("\n[{last}"),
            format!("\n[[{last}]]"),
        ];
        assert!(
            written.iter().any(|form| examples().contains(form)),
            "{key} is not in the default file"
        );
    }
}

#[test]
fn the_examples_in_the_default_file_say_what_is_done_without_them() {
    let environment = [("NYLAS_WEBHOOK_SECRET", "x"), ("MY_APP_SECRET", WHSEC)];
    let examples = examples();
    let declarations = &examples[examples.find("\n[[source]]").unwrap()..examples.find("\n[policy").unwrap()];
    let said = read_with(declarations, &environment, Flags::default())
        .unwrap()
        .declared;
    let silent = read(concat!(
        "[[source]]\nname = 'nylas'\nprovider = 'nylas'\n",
        "[[destination]]\nname = 'my-app'\nurl = 'http://127.0.0.1:3000/webhooks/nylas'\nsources = ['nylas']\n",
        "allow_private = true\n",
    ));
    let silent = silent.unwrap().declared;
    let (said_source, silent_source) = (&said.sources[0], &silent.sources[0]);
    assert_eq!(said_source.verify, silent_source.verify);
    assert_eq!(said_source.dedupe_window, silent_source.dedupe_window);
    assert_eq!(said_source.dedupe_key, silent_source.dedupe_key);
    assert_eq!(said_source.on_invalid, silent_source.on_invalid);
    assert_eq!(said_source.scheme, silent_source.scheme);
    let (said, silent) = (&said.destinations[0], &silent.destinations[0]);
    assert_eq!(said.kind, silent.kind);
    assert_eq!(said.trigger_types, silent.trigger_types);
    assert_eq!(said.policy, silent.policy);
    assert_eq!(said.timeout, silent.timeout);
    assert_eq!(said.concurrency, silent.concurrency);
}

#[test]
fn the_environment_goes_over_the_file_and_flags_go_over_both() {
    let file = "[server]\nlisten = '127.0.0.1:1'\nadmin = '127.0.0.1:2'\napi = '127.0.0.1:3'\n";
    let environment = [
        ("HOOKFAST_SERVER__ADMIN", "127.0.0.1:4"),
        ("HOOKFAST_SERVER__API", "127.0.0.1:5"),
        ("HOOKFAST_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 192.168.0.1"),
        ("HOOKFAST_SERVER__CONNECTIONS", "77"),
        ("HOOKFAST_RETENTION__DEAD", "2d"),
        ("HOOKFAST_SERVER", "http://not-a-setting"),
        ("UNRELATED__KEY", "x"),
    ];
    let flags = Flags {
        api: Some("127.0.0.1:6".into()),
        ..Flags::default()
    };
    let settings = read_with(file, &environment, flags).unwrap().settings;
    assert_eq!(settings.listen.port(), 1);
    assert_eq!(settings.admin.port(), 4);
    assert_eq!(settings.api.unwrap().port(), 6);
    assert_eq!(settings.ingest.connections, 77);
    assert_eq!(settings.retention.dead, Duration::from_secs(2 * 86_400));
    let networks: Vec<_> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.168.0.1/32"]);
}

#[test]
fn secrets_come_from_the_environment_and_from_files_beside_the_configuration() {
    let text = concat!(
        "[[source]]\nname = 'n'\nprovider = 'nylas'\nsecrets = ['${SECRET}', 'file:secret.txt', 'plain']\n",
        "[[destination]]\nname = 'd'\nkind = 'pull'\nsources = ['n']\nsecret = 'file:secret.txt'\n",
    );
    let config = read_with(text, &[("SECRET", "from the environment")], Flags::default()).unwrap();
    let secrets: Vec<_> = config.declared.sources[0]
        .secrets
        .iter()
        .flatten()
        .map(Secret::expose)
        .collect();
    assert_eq!(secrets, ["from the environment", WHSEC, "plain"]);
    let destination = &config.declared.destinations[0];
    assert_eq!(destination.kind, DestinationKind::Pull);
    assert_eq!(destination.secret.as_ref().map(Secret::expose), Some(WHSEC));
    assert!(!format!("{config:?}").contains("whsec_"));
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place_and_remedy() {
    let text = r#"
[server]
lisen = "0.0.0.0:80"
admin = "localhost"
api = "127.0.0.1:9"
database = "postgres://localhost"
body_budget = "lots"
log_format = "xml"
connections = 0
encryption_key = "short"
grace = 10

[tls]
cert = "file:absent.pem"
listeners = ["public"]

[ingest]
body_limit = "40MiB"

[[source]]
name = "Nylas"
provider = "nylsa"
secrets = ["${ABSENT}"]
dedupe = "1h"

[[source]]
provider = "stripe"
dedupe_key = "heder:x"
verify = "maybe"

[[source]]
name = "other"
provider = "generic"
scheme = { haeder = "x-signature", hash = "md5" }
secrets = [""]

[[destination]]
name = "app"
url = "http://localhost:3000"
sources = ["nylas"]
policy = "quik"
timeout = "1h"
trigger_types = ["a*b"]
secret = "whsec_short"

[[destination]]
name = "app"
kind = "push"
verify = true

[policy.quick]
base = "nylas"
retried = ["9xx"]
first = "1s"

[policy.inbox]

[outbox]
allowed_networks = ["10/8"]
preset = "nylas"

[smtp]
url = "smtp://hooks:canary@mail.example.com?tls=opportunistic"
ca = "absent.pem"
form = "hooks@example.com"
"#;
    let environment = [
        ("HOOKFAST_SERVER__ADMNI", "x"),
        ("HOOKFAST_SOURCE__NAME", "x"),
        ("HOOKFAST_RETENTION__DEAD", "soon"),
        ("HOOKFAST_SMTP__FROM", "nobody"),
    ];
    let flags = Flags {
        listen: Some("127.0.0.1:9".into()),
        ..Flags::default()
    };
    insta::assert_snapshot!(read_with(text, &environment, flags).unwrap_err());
}

#[test]
fn hosts_are_names_and_addresses_as_host_headers_hold_them() {
    let hosts =
        read("[server]\nhosts = ['Hooks.Internal.', '10.0.0.7', '[2001:db8::7]', '2001:DB8::8', 'admin']\n");
    assert_eq!(
        hosts.unwrap().settings.hosts,
        [
            "hooks.internal",
            "10.0.0.7",
            "2001:db8::7",
            "2001:db8::8",
            "admin"
        ]
    );
    for wrong in [
        "",
        "http://a.example",
        "a.example:80",
        "*.example",
        "a..b",
        "a b",
        "[::1]:80",
    ] {
        let message = read(&format!("[server]\nhosts = ['{wrong}']\n")).unwrap_err();
        assert!(
            message.contains("server.hosts") && message.contains("without scheme, port"),
            "{message}"
        );
    }
}

#[test]
fn trigger_types_of_ones_own_are_declared_with_documents_in_the_text_or_in_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("paid.json"),
        "{\n  \"type\": \"object\"\n}\n",
    )
    .unwrap();
    let text = format!(
        "[[trigger]]\nname = 'invoice.paid'\ndescription = 'Somebody has paid.'\nschema = 'file:{}'\n\
         example = '{{ \"total\": 1.5 }}'\n[[trigger]]\nname = 'invoice.sent'\n\
         [[destination]]\nname = 'd'\nurl = 'https://example.com/'\n\
         trigger_types = ['invoice.*', 'invoice.paid', 'message.created', 'destination.failed']\n",
        directory.path().join("paid.json").display(),
    );
    let declared = read(&text).unwrap().declared;
    let paid = &declared.triggers[0];
    assert_eq!(paid.description, "Somebody has paid.");
    assert_eq!(paid.schema.as_deref(), Some(r#"{"type":"object"}"#));
    assert_eq!(paid.example.as_deref(), Some(r#"{"total":1.5}"#));
    let sent = &declared.triggers[1];
    assert_eq!((sent.description.as_str(), &sent.schema), ("", &None));
}

#[test]
fn every_mistake_of_the_outbox_is_reported_at_once() {
    let text = r#"
[outbox]
preset = "nylas"

[[trigger]]
name = "invoice.paid"
schema = "{"
example = "file:absent.json"

[[trigger]]
name = "invoice.paid"
schema = "3"

[[trigger]]
name = "destination.lost"
descripton = "x"

[[trigger]]
name = "invoice.*"

[[trigger]]
description = "nameless"

[[source]]
name = "nylas"
provider = "nylas"

[[destination]]
name = "customer"
url = "https://example.com/"
trigger_types = ["mesage.created", "invoice.payed", "message.created.truncated", "invoice.*"]
notification_email_addresses = ["ops@example.com", "nobody"]

[[destination]]
name = "both"
url = "https://example.com/"
sources = ["outbox", "nylas"]
trigger_types = ["anything.a.provider.sends"]
"#;
    insta::assert_snapshot!(read(text).unwrap_err());
}

#[test]
fn an_open_catalogue_lets_destinations_list_any_type() {
    let text = "[outbox]\nopen = true\npreset = ''\n\
        [[destination]]\nname = 'd'\nurl = 'https://example.com/'\ntrigger_types = ['order.shipped']\n";
    assert!(read(text).is_ok());
    let closed = read(&text.replace("open = true", "open = false")).unwrap_err();
    assert!(
        closed.contains("there is no trigger type `order.shipped`"),
        "{closed}"
    );
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_one_clear_mistake() {
    let message = read("[server\nlisten = ").unwrap_err();
    assert!(message.contains("hookfast.toml:1"), "{message}");
    let flags = Flags {
        config: Some("/nonexistent/hookfast.toml".into()),
        ..Flags::default()
    };
    let message = Config::read(&flags, &Environment::new()).unwrap_err().to_string();
    assert!(
        message.starts_with("/nonexistent/hookfast.toml: cannot read the file"),
        "{message}"
    );
}

#[test]
fn no_dedupe_is_asked_for_in_words() {
    for none in ["none", "0"] {
        let text = format!("[[source]]\nname = 'n'\nprovider = 'nylas'\ndedupe = '{none}'\n");
        assert_eq!(
            read(&text).unwrap().declared.sources[0].dedupe_key,
            DedupeKey::None
        );
    }
    let both = "[[source]]\nname = 'n'\nprovider = 'nylas'\ndedupe = 'none'\ndedupe_key = 'body'\n";
    assert!(read(both).unwrap_err().contains("leave one out"));
}

#[test]
fn a_policy_takes_from_its_base_what_it_does_not_say() {
    let text = "[policy.quick]\nbase = 'nylas'\ndelays = ['200ms', '400ms']\n[policy.slow]\nspan = '7d'\n";
    let policies = read(text).unwrap().declared.policies;
    let nylas = hookfast_engine::retry::Policy::nylas();
    assert_eq!(policies[0].retried, nylas.retried);
    assert_eq!(policies[0].success.words(), ["200"]);
    insta::assert_debug_snapshot!(policies.iter().map(|policy| &policy.schedule).collect::<Vec<_>>());
}

#[test]
fn the_effective_configuration_is_shown_without_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookfast.toml");
    let text = format!(
        "[server]\nencryption_key = '{}'\n[[source]]\nname = 'n'\nprovider = 'nylas'\nsecrets = ['sesame', '${{S}}']\n\
         [[destination]]\nname = 'd'\nurl = 'https://example.com/'\nsources = ['n']\nsecret = '{WHSEC}'\npolicy = 'quick'\n\
         [policy.quick]\ndelays = ['1s']\n",
        "ab".repeat(32),
    );
    std::fs::write(&file, text).unwrap();
    let flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let environment = Environment::from([
        ("S".into(), "sesame".into()),
        ("HOOKFAST_SERVER__LISTEN".into(), "127.0.0.1:5".into()),
    ]);
    let shown = show::as_toml(&flags, &environment).unwrap();
    for secret in ["sesame", "whsec_", "abab"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(
            !show::as_json(&flags, &environment)
                .unwrap()
                .to_string()
                .contains(secret)
        );
    }
    insta::assert_snapshot!(shown.replace(&format!("{}/", directory.path().display()), ""));
    // What is shown is a configuration again, but for the masks.
    let again = directory.path().join("again.toml");
    std::fs::write(&again, shown.replace(&format!("\"{}\"", show::MASK), "\"\"")).unwrap();
    let flags = Flags {
        config: Some(again),
        ..Flags::default()
    };
    let mistakes = Config::read(&flags, &Environment::new()).unwrap_err();
    assert!(
        mistakes
            .iter()
            .all(|mistake| mistake.problem.contains("the secret is empty")),
        "{mistakes}"
    );
}

#[test]
fn mail_is_sent_by_the_server_of_the_url_and_only_where_there_is_one() {
    let text =
        "[smtp]\nurl = 'file:url.txt'\nfrom = 'Hookfast <hooks@example.com>'\nca = 'file:secret.txt'\n";
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("url.txt");
    std::fs::write(&url, "smtp://hooks:canary@mail.example.com\n").unwrap();
    let text = text.replace("url.txt", url.to_str().unwrap());
    let config = read(&text).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    let smtp = config.settings.smtp.unwrap();
    assert_eq!(
        (smtp.relay.host.as_str(), smtp.relay.port),
        ("mail.example.com", 587)
    );
    assert_eq!(smtp.relay.login.unwrap().password.expose(), "canary");
    assert_eq!(smtp.from.to_string(), "Hookfast <hooks@example.com>");
    assert!(smtp.ca.unwrap().ends_with("secret.txt"));
    assert!(read("").unwrap().settings.smtp.is_none());
    // Switched off by the environment.
    let off = "[smtp]\nurl = '${URL}'\nfrom = 'hooks@example.com'\n";
    let off = read_with(off, &[("URL", "")], Flags::default()).unwrap();
    assert!(off.settings.smtp.is_none());
    let half = read("[smtp]\nfrom = 'hooks@example.com'\n").unwrap_err();
    assert!(half.contains("smtp.from: set without smtp.url"), "{half}");
    let half = read("[smtp]\nurl = 'smtps://mail.example.com'\n").unwrap_err();
    assert!(half.contains("smtp.url: set without smtp.from"), "{half}");
}

#[test]
fn the_url_of_an_smtp_server_is_shown_without_user_and_password() {
    let shown = |url: &str| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hookfast.toml");
        std::fs::write(
            directory.path().join("url"),
            "smtp://canary:canary@mail.example.com",
        )
        .unwrap();
        let text = format!("[smtp]\nurl = '{url}'\nfrom = 'hooks@example.com'\n");
        std::fs::write(&file, text).unwrap();
        let flags = Flags {
            config: Some(file),
            ..Flags::default()
        };
        let environment = Environment::from([
            ("URL".into(), "smtp://canary:canary@mail.example.com".into()),
            ("PASSWORD".into(), "canary".into()),
        ]);
        let text = show::as_toml(&flags, &environment).unwrap();
        assert!(!text.contains("canary"), "{text}");
        let json = show::as_json(&flags, &environment).unwrap();
        assert!(!json.to_string().contains("canary"), "{json}");
        json["smtp"]["url"].as_str().unwrap().to_owned()
    };
    for (url, expected) in [
        ("", ""),
        ("smtps://mail.example.com", "smtps://mail.example.com"),
        (
            "smtp://canary:canary%40@mail.example.com:2525/a.example.com",
            "smtp://********@mail.example.com:2525/a.example.com",
        ),
        (
            "smtp://canary:${PASSWORD}@mail.example.com",
            "smtp://********@mail.example.com",
        ),
        ("${URL}", "${URL}"),
        ("file:url", "file:url"),
    ] {
        assert_eq!(shown(url), expected, "{url}");
    }
}

#[test]
fn a_missing_encryption_key_is_made_only_where_there_is_no_data() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let flags = Flags {
        data: Some(data.to_owned()),
        ..Flags::default()
    };
    let config = read_with("", &[], flags).unwrap();
    config.open_vault(Clock).unwrap();
    config.open_vault(Clock).unwrap();
    std::fs::write(directory.path().join("hookfast.db"), "").unwrap();
    config.open_vault(Clock).unwrap();
    std::fs::remove_file(directory.path().join("secret.key")).unwrap();
    let message = config.open_vault(Clock).unwrap_err().to_string();
    assert!(message.contains("put it back"), "{message}");
}
