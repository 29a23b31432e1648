//! `hookfast verify`: whether a signature is good, without a server, and if not, why (SPEC D4).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, error::ErrorKind};
use hookfast_signature::{
    Clock as Against, Diagnosis, Request, Scheme, Secret, Tolerance, Verifier, diagnose,
};
use serde_json::json;

use super::connection::{content, secret, span};
use super::output;
use crate::admin::wire;
use crate::clock::Clock;
use crate::config::{DeclaredSource, check_provider};
use crate::ingest::scheme::scheme_of;

/// Says whether a request is signed as its provider signs, and if not, why and what probably happened.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  hookfast verify --provider nylas --secret \"$SECRET\" --header \"x-nylas-signature: $SIGNATURE\" --body body.json
  hookfast verify --provider stripe --secret whsec_… --header 'Stripe-Signature: t=…,v1=…' --now 1700000000 < body
  hookfast verify --provider generic --scheme header=x-signature --secret s --header 'x-signature: …' --body -

Prints `valid` and exits 0, or prints why not and exits 1.")]
pub(super) struct VerifyArgs {
    /// The provider's slug, or `generic` with --scheme.
    #[arg(long, value_name = "SLUG", value_parser = check_provider)]
    provider: String,
    /// A secret, or the public key of such a scheme; `file:PATH`. Several while one is rotated.
    #[arg(long, value_name = "SECRET", required = true)]
    secret: Vec<String>,
    /// A header of the request, as `Name: value`.
    #[arg(long, value_name = "HEADER", value_parser = HeaderParser)]
    header: Vec<Header>,
    /// The file with the raw body, or - for stdin, which is also the default.
    #[arg(long, value_name = "FILE", default_value = "-")]
    body: PathBuf,
    /// The URL the provider was given, where its scheme signs it.
    #[arg(long)]
    url: Option<String>,
    /// The request's method.
    #[arg(long, default_value = "POST")]
    method: String,
    /// When the request came, in Unix seconds; now by default.
    #[arg(long, value_name = "UNIX_SECONDS")]
    now: Option<u64>,
    /// How far a signed timestamp may be from then; as the scheme says by default.
    #[arg(long, value_name = "DURATION", value_parser = span)]
    tolerance: Option<wire::Span>,
    /// A setting of the scheme, such as header=x-signature or variant=sha1.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    scheme: Vec<(String, String)>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A header, of whatever bytes.
type Header = (String, Vec<u8>);

/// Reads `Name: value`, where the value may be any bytes.
#[derive(Clone)]
struct HeaderParser;

impl TypedValueParser for HeaderParser {
    type Value = Header;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Header, clap::Error> {
        let bytes = value.as_bytes();
        let wrong = || {
            let message = "a header is written as 'Name: value'\n";
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        };
        let colon = bytes.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let (name, value) = (&bytes[..colon], &bytes[colon + 1..]);
        let name = OsString::from(OsStr::from_bytes(name))
            .into_string()
            .map_err(|_| wrong())?;
        Ok((name.trim().to_owned(), value.trim_ascii().to_vec()))
    }
}

/// What was found.
enum Found {
    Valid {
        secret: usize,
    },
    Invalid {
        code: &'static str,
        reason: String,
        likely: Vec<String>,
    },
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let body = content(&args.body)?;
    let secrets = args.secret.iter().map(|text| secret(text).map(Secret::new));
    let secrets: Vec<_> = secrets.collect::<Result<_, _>>()?;
    let found = judge(args, &secrets, &body);
    match &found {
        Found::Valid { secret } if args.json => output::json(&json!({ "valid": true, "secret": secret }))?,
        Found::Valid { .. } => output::line("valid")?,
        Found::Invalid { code, reason, likely } if args.json => {
            output::json(&json!({ "valid": false, "code": code, "reason": reason, "likely": likely }))?;
        }
        Found::Invalid { reason, likely, .. } => {
            output::line(format_args!("invalid: {}", output::clean(reason)))?;
            for cause in likely {
                output::line(format_args!("  {}", output::clean(cause)))?;
            }
        }
    }
    Ok(match found {
        Found::Valid { .. } => ExitCode::SUCCESS,
        Found::Invalid { .. } => ExitCode::FAILURE,
    })
}

fn judge(args: &VerifyArgs, secrets: &[Secret], body: &[u8]) -> Found {
    let source = DeclaredSource {
        scheme: args.scheme.iter().cloned().collect::<BTreeMap<_, _>>(),
        ..DeclaredSource::new("verified".to_owned(), args.provider.clone())
    };
    let scheme = match scheme_of(&source.unstored()) {
        Ok(scheme) => scheme,
        Err(faults) => {
            return Found::Invalid {
                code: "scheme",
                reason: faults.join("; "),
                likely: Vec::new(),
            };
        }
    };
    let (usable, faults) = usable(&scheme, secrets);
    if usable.is_empty() {
        return Found::Invalid {
            code: "secret",
            reason: faults.join("; "),
            likely: Vec::new(),
        };
    }
    let headers = args.header.as_slice();
    let request = Request {
        method: &args.method,
        url: args.url.as_deref(),
        headers: &headers,
        body,
    };
    let against = against(args);
    match diagnose(&scheme, &usable, &request, against) {
        Some(diagnosis) => invalid(diagnosis, faults),
        None => Found::Valid {
            secret: matching(&scheme, secrets, &request, against),
        },
    }
}

fn against(args: &VerifyArgs) -> Against {
    let now = match args.now {
        Some(seconds) => Duration::from_secs(seconds),
        None => Duration::from_micros(u64::try_from(Clock.now().as_micros()).unwrap_or(0)),
    };
    let tolerance = args
        .tolerance
        .map_or(Tolerance::OfScheme, |given| Tolerance::Within(given.0));
    Against::at(now).with(tolerance)
}

/// The secrets that the scheme can take, and what is wrong with the others.
fn usable(scheme: &Scheme, secrets: &[Secret]) -> (Vec<Secret>, Vec<String>) {
    let (mut usable, mut faults) = (Vec::new(), Vec::new());
    for secret in secrets {
        match scheme.check_secret(secret) {
            Ok(()) => usable.push(secret.clone()),
            Err(error) => faults.push(error.to_string()),
        }
    }
    (usable, faults)
}

/// Which of the secrets matched, by its place in the order they were given.
fn matching(scheme: &Scheme, secrets: &[Secret], request: &Request<'_>, against: Against) -> usize {
    let matches = |secret: &Secret| {
        Verifier::new(scheme.clone(), std::slice::from_ref(secret))
            .is_ok_and(|verifier| verifier.verify(request, against).is_ok())
    };
    secrets.iter().position(matches).unwrap_or(0)
}

fn invalid(diagnosis: Diagnosis, faults: Vec<String>) -> Found {
    let causes = diagnosis.causes.iter().map(ToString::to_string);
    let suspicions = diagnosis.suspicions.iter().map(ToString::to_string);
    Found::Invalid {
        code: diagnosis.refusal.code(),
        reason: diagnosis.refusal.to_string(),
        likely: faults.into_iter().chain(causes).chain(suspicions).collect(),
    }
}
