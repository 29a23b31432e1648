//! The nearest known word to one that is not known.
//!
//! Owns how near is near enough to be offered. Must not know what the words mean, nor how they are offered.

/// A longer word was not meant to be one of ours, and comparing takes time and memory by its length.
const WORD_BYTES_MOST: usize = 256;

/// The one of `known` that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > WORD_BYTES_MOST {
        return None;
    }
    let distance = |each: &&str| strsim::damerau_levenshtein(word, each);
    let near = known.into_iter().min_by_key(distance)?;
    (distance(&near) <= (word.len() / 3).max(2)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not_offered() {
        let known = ["listen", "admin", "api", "trusted_proxies"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("trusted_proxy", known), Some("trusted_proxies"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_word_of_any_length_costs_little() {
        let known = "k".repeat(200);
        assert_eq!(nearest(&"k".repeat(250), [known.as_str()]), Some(known.as_str()));
        assert_eq!(nearest(&"k".repeat(10_000_000), [known.as_str()]), None);
    }
}
