//! The commands, for every noun and with every kind of mistake, and the files that they and the server read.
//! It must not know what a command prints.

use std::fs;

use super::canaries::Kind;
use super::traffic::{body, first_of};
use super::world::{BODY, BROKEN_FILE_SECRET, MISPLACED, NYLAS, WRONG_KEY, World, name_of, whsec};
use crate::support::api::text;
use crate::support::nylas::sign;
use crate::support::server::hookfast;
use crate::support::time::wait_for;

/// The commands that talk to the server.
pub(crate) fn every_noun(world: &mut World) {
    let event = text(&first_of(world, "list_events", "/api/v1/events")["id"]).to_owned();
    let delivery = "/api/v1/deliveries?state=dead&destination=refusing";
    let delivery = text(&first_of(world, "list_deliveries", delivery)["id"]).to_owned();
    let quarantined = text(&first_of(world, "list_quarantined", "/api/v1/quarantine")["id"]).to_owned();
    let reading = format!(
        "source list
         source show github --json
         destination list --json
         destination show refusing
         application list
         event list
         event list --json
         event show {event}
         event show {event} --json
         event show {event} --body
         delivery list
         delivery show {delivery}
         delivery show {delivery} --json
         quarantine list
         quarantine show {quarantined}
         quarantine show {quarantined} --json
         rejected list
         rejected list --json
         replay status
         key list
         node list"
    );
    let changing = format!(
        "source create by-hand --provider nylas --secret {MISPLACED}
         source create by-hand --provider nylas --secret {MISPLACED}
         source create bad --provider standard-webhooks --secret {MISPLACED}
         source create bad --provider nylsa --secret {MISPLACED}
         source create bad --provider generic --secret {MISPLACED} --scheme type=tokn
         source update by-hand --secret {MISPLACED} --dedupe 1s
         source update github --secret file:/nowhere
         destination create bad --pull --source bare --secret {MISPLACED}
         event replay {event} --destination queue
         delivery retry {delivery}
         delivery discard {delivery}
         quarantine release {quarantined}
         quarantine discard {quarantined}
         replay start --source token --dry-run
         source delete by-hand"
    );
    for line in reading.lines().chain(changing.lines()) {
        world.command(line);
    }
    for line in reading.lines() {
        let wrong = format!("{line} --key {WRONG_KEY}");
        assert_eq!(world.command(&wrong).status.code(), Some(1), "{wrong}");
    }
    for line in [
        format!("source list --key {WRONG_KEY}\u{e9}"),
        format!("source list --server http://127.0.0.1:9 --key {WRONG_KEY}"),
        format!("source list --server nowhere --key {WRONG_KEY}"),
        format!("source list --no-such-flag --key {WRONG_KEY}"),
    ] {
        assert_ne!(world.command(&line).status.code(), Some(0), "{line}");
    }
    makes_secrets(world);
    verifies(world);
}

/// The commands that show a secret this once.
fn makes_secrets(world: &mut World) {
    let own = whsec(&MISPLACED.repeat(2));
    let own = format!("destination create own --pull --source bare --secret {own} --json");
    for (line, field) in [
        ("key create by-hand --scope read --json", "key"),
        ("destination rotate-secret queue --json", "secret"),
        (
            "source create made --provider github --generate-secret --json",
            "secret",
        ),
        (&own, "secret"),
    ] {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = world.server.cli(&arguments);
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        let secret = text(&printed[field]).to_owned();
        world
            .record
            .hear_command(&name_of(&arguments), &output, &[&secret]);
        world
            .record
            .plant("a secret that was made", Kind::Secret, &secret);
    }
    // The name is taken: the refusal shows nothing of it.
    assert_eq!(world.command(&own).status.code(), Some(1));
}

/// Whether a signature is good: the secret is an argument, and never in what is said.
fn verifies(world: &mut World) {
    let file = world.server.data().with_file_name("body.json");
    fs::write(&file, body("verified", BODY)).expect("the file can be written");
    let file = file.display();
    let header = format!("x-nylas-signature:{}", sign(MISPLACED, b"other"));
    let standard = whsec(&MISPLACED.repeat(2));
    for line in [
        format!("verify --provider nylas --secret {NYLAS} --header {header} --body {file}"),
        format!("verify --provider nylas --secret {NYLAS} --header {header} --body {file} --json"),
        format!("verify --provider nylas --secret {NYLAS} --body {file}"),
        format!("verify --provider nylas --secret {NYLAS} --header {MISPLACED} --body {file}"),
        format!("verify --provider standard-webhooks --secret {MISPLACED} --body {file}"),
        format!("verify --provider standard-webhooks --secret {standard} --body {file}"),
        format!("verify --provider nylas --secret {NYLAS} --header {header} --body /nowhere"),
    ] {
        assert_ne!(world.command(&line).status.code(), Some(0), "{line}");
    }
}

/// Files that cannot be applied, each with a secret where the mistake is, read by commands and on SIGHUP; and the
/// commands that show and check what is right.
pub(crate) fn configuration(world: &mut World) {
    let secret = BROKEN_FILE_SECRET;
    let source = |more: &str| format!("[[source]]\nname = \"nylas\"\nprovider = \"nylas\"\n{more}\n");
    let destination = |more: &str| {
        format!(
            "[[destination]]\nname = \"app\"\nsources = [\"nylas\"]\nurl = \"https://example.com/\"\n{more}\n"
        )
    };
    let broken = [
        source(&format!("secrets = [\"{secret}\"")),
        source(&format!("secrets = \"{secret}\"")),
        source(&format!("secrets = [{secret}]")),
        source(&format!("secrets = [[\"{secret}\"]]")),
        source(&format!("secret = \"{secret}\"")),
        source(&format!("secrets = [\"{secret}\", \"${{NOT_SET}}\"]")),
        source("secrets = [\"file:nowhere\"]"),
        source(&format!("secrets = [\"{secret}\"]\nsecrets = [\"{secret}\"]")),
        source(&format!("scheme = {{ token = \"{secret}\" }}")),
        source(&format!("secrets = [\"{secret}\"]")).replace("\"nylas\"\n", "\"standard-webhooks\"\n"),
        destination(&format!("secret = \"{secret}\"")) + &source(""),
        destination(&format!("secret = [\"{secret}\"]")) + &source(""),
        destination("").replace("example.com", &format!("user:{secret}@example.com")) + &source(""),
        destination("").replace("https://example.com/", &format!("{secret}://example.com/")) + &source(""),
        format!("[server]\nencryption_key = \"{secret}\"\n"),
        format!("[server]\nencryption_key = {secret}\n"),
        format!("[server]\nadmin_key = \"{secret}\"\n"),
        format!("[server\nencryption_key = \"{secret}\"\n"),
        format!("{secret} = \n"),
    ];
    let file = world.server.data().with_file_name("broken.toml");
    let path = file.to_str().expect("a path").to_owned();
    for (count, text) in broken.iter().enumerate() {
        fs::write(&file, text).expect("the file can be written");
        for arguments in [
            vec!["config", "check", "--config", &path],
            vec!["config", "show", "--config", &path],
            vec!["config", "show", "--json", "--config", &path],
            vec!["serve", "--check", "--config", &path],
        ] {
            let output = hookfast().args(&arguments).output().expect("hookfast starts");
            world.record.hear_command(&name_of(&arguments), &output, &[]);
            assert_eq!(output.status.code(), Some(1), "{text}");
        }
        world.server.configure(text);
        world.server.hang_up();
        wait_for("the file to be refused", || {
            (world
                .server
                .log()
                .matches("the configuration was not applied")
                .count()
                == count + 1)
                .then_some(())
        });
    }
    let config = world.config.clone();
    world.server.configure(&config);
    world.server.hang_up();
    wait_for("the file to be applied", || {
        world
            .server
            .log()
            .contains("was read again and applied")
            .then_some(())
    });
    offline(world);
}

/// The commands that read the right file and the directory of data, and a key that nobody can read.
fn offline(world: &mut World) {
    let directory = world.server.data().with_file_name("");
    let path = |name: &str| directory.join(name).display().to_string();
    let (config, data, copy) = (path("hookfast.toml"), path("data"), path("copy.db"));
    let anywhere = "--listen 127.0.0.1:0 --admin 127.0.0.1:0";
    let (tls, own) = (path("tls.toml"), path("tls-data"));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_pem();
    world.record.plant("a TLS key", Kind::Secret, &key[40..80]);
    // As it is where an environment variable lost the ends of its lines.
    let files = [("key.pem", key.replace('\n', " ")), ("cert.pem", made.cert.pem())];
    for (name, content) in files {
        fs::write(directory.join(name), content).expect("the file can be written");
    }
    let settings = "[tls]\ncert = \"file:cert.pem\"\nkey = \"file:key.pem\"\n";
    fs::write(directory.join("tls.toml"), settings).expect("the file can be written");
    for line in [
        format!("config check --config {config}"),
        format!("config show --config {config}"),
        format!("config show --json --config {config}"),
        format!("serve --check --config {config}"),
        format!("serve --config {config} --data {data} {anywhere}"),
        format!("serve --config {tls} --data {own} {anywhere}"),
        format!("check --data {data}"),
        format!("backup {copy}"),
        format!("backup {copy}"),
    ] {
        world.command(&line);
    }
}
