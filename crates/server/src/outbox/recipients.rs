//! Who is told by e-mail what becomes of a destination (SPEC O7).
//!
//! Owns what may stand in the list; the API and the configuration file both ask here. Must not know how mail is sent.

/// The most addresses of one destination.
const ADDRESSES_MOST: usize = 20;
/// The longest e-mail address (RFC 5321 section 4.5.3.1).
const ADDRESS_BYTES: usize = 254;

/// Checks a destination's list.
///
/// # Errors
/// Where it is too long, or an entry is no e-mail address.
pub fn check_addresses(addresses: &[String]) -> Result<(), String> {
    if addresses.len() > ADDRESSES_MOST {
        return Err(format!("name at most {ADDRESSES_MOST}"));
    }
    match addresses.iter().find(|address| !is_address(address)) {
        None => Ok(()),
        Some(wrong) => {
            let shown: String = wrong.chars().take(80).collect();
            Err(format!(
                "`{shown}` is not an e-mail address; write it plainly, such as ops@example.com"
            ))
        }
    }
}

/// Whether a text can be an e-mail address. Whether anybody reads what is sent there, only they know.
fn is_address(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"<>,;:\"()[]\\@".contains(&byte))
    };
    text.len() <= ADDRESS_BYTES
        && text.split_once('@').is_some_and(|(local, domain)| {
            plain(local) && plain(domain) && !domain.starts_with('.') && !domain.ends_with('.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_where_somebody_could_read_what_is_sent_there() {
        for good in ["ops@example.com", "a.b+c@sub.example.com", "x@localhost"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "a b@c.d",
            "a@b@c",
            "a@.b",
            "<a@b.c>",
            "a@b.c\n",
            &long,
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_list_is_refused_with_the_entry_that_is_wrong_or_for_its_length() {
        let listed = |count: usize| vec!["ops@example.com".to_owned(); count];
        assert_eq!(check_addresses(&listed(20)), Ok(()));
        assert_eq!(check_addresses(&listed(21)).unwrap_err(), "name at most 20");
        let wrong = [listed(1), vec!["nobody".to_owned()]].concat();
        assert!(
            check_addresses(&wrong)
                .unwrap_err()
                .starts_with("`nobody` is not")
        );
    }
}
