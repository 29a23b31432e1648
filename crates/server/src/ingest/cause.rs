//! The causes for which the public listener refuses a request (SPEC I6, I7, I19).
//!
//! Owns the one table of them: code, status, meaning. Must not know how they are found out. Every code has a
//! heading in `docs/errors.md`.

use http::StatusCode;

macro_rules! causes {
    ($($name:ident = $code:literal, $status:ident, $meaning:literal;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Cause {
            $(#[doc = $meaning] $name,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code, as in `docs/errors.md`, in metrics and in the list of rejected requests.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status it is answered with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it means, in a sentence without its end.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// The body of the answer.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => concat!($code, ": ", $meaning, "\n"),)* }
            }
        }
    };
}

causes! {
    MalformedRequest = "malformed-request", BAD_REQUEST, "the request is not valid HTTP";
    MalformedBody = "malformed-body", BAD_REQUEST, "the body ended too early or its chunks are not valid HTTP";
    BadChallenge = "bad-challenge", BAD_REQUEST, "the challenge is empty, too long, or came twice with different values";

    NoSecret = "no-secret", UNAUTHORIZED, "the source has no secret yet to verify with; the request is kept in quarantine";
    SignatureMissing = "signature-missing", UNAUTHORIZED, "the header that carries the signature or token is missing";
    SignatureAmbiguous = "signature-ambiguous", UNAUTHORIZED, "a header that the signature needs came twice with different values";
    SignatureTooLong = "signature-too-long", UNAUTHORIZED, "a header that the signature needs is longer than any genuine one";
    SignatureTooMany = "signature-too-many", UNAUTHORIZED, "more signatures came than any genuine sender gives";
    SignatureMalformed = "signature-malformed", UNAUTHORIZED, "the signature is not in the form that the scheme prescribes";
    SignatureVersion = "signature-version", UNAUTHORIZED, "no signature is of a version that the source's secrets can check";
    SignatureMismatch = "signature-mismatch", UNAUTHORIZED, "the signature or token matches none of the source's secrets";
    TimestampMissing = "timestamp-missing", UNAUTHORIZED, "the timestamp that the scheme signs is missing";
    TimestampMalformed = "timestamp-malformed", UNAUTHORIZED, "the timestamp that the scheme signs cannot be read";
    TimestampTooOld = "timestamp-too-old", UNAUTHORIZED, "the signature is good but its timestamp is too old";
    TimestampTooNew = "timestamp-too-new", UNAUTHORIZED, "the signature is good but its timestamp lies in the future";

    UnknownSource = "unknown-source", NOT_FOUND, "there is no source of this name";
    UnknownPath = "unknown-path", NOT_FOUND, "webhooks are taken at /in/{source} and nowhere else";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "this method is not taken here";
    HeadTimeout = "head-timeout", REQUEST_TIMEOUT, "the head of the request took too long to arrive";
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, "the body arrived too slowly";
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "the body is larger than this source takes";
    UriTooLong = "uri-too-long", URI_TOO_LONG, "the request's target is too long";
    HeadTooLarge = "head-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large or has too many headers";
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, "this source takes no more requests a second than its rate limit";

    OutOfMemory = "out-of-memory", SERVICE_UNAVAILABLE, "as many bytes of bodies are in memory as may be";
    TooManyConnections = "too-many-connections", SERVICE_UNAVAILABLE, "as many connections are open as may be";
    Stopping = "stopping", SERVICE_UNAVAILABLE, "the server is stopping and takes no new requests";
    DiskFull = "disk-full", SERVICE_UNAVAILABLE, "the disk is full or below its floor of free space";
    SourceOverloaded = "source-overloaded", SERVICE_UNAVAILABLE, "as much of this source waits for the disk as may wait";
    DiskSlow = "disk-slow", SERVICE_UNAVAILABLE, "the disk did not answer in time; whether the event is stored is not known";
    StoreFailed = "store-failed", SERVICE_UNAVAILABLE, "the store failed; whether the event is stored is not known";
    UnusableSource = "unusable-source", SERVICE_UNAVAILABLE, "the source is set up so that nothing can be verified; the request is kept in quarantine";
    Internal = "internal", SERVICE_UNAVAILABLE, "a fault of this server";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cause_has_its_own_code_of_kebab_case_words() {
        let codes: HashSet<_> = Cause::ALL.iter().map(|cause| cause.code()).collect();
        assert_eq!(codes.len(), Cause::ALL.len());
        for code in codes {
            let words = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(code.bytes().all(words), "{code}");
        }
    }

    #[test]
    fn no_cause_is_answered_with_a_code_that_the_specification_does_not_name() {
        let named = [400, 401, 403, 404, 405, 408, 411, 413, 414, 429, 431, 503];
        for cause in Cause::ALL {
            assert!(named.contains(&cause.status().as_u16()), "{}", cause.code());
        }
    }
}
