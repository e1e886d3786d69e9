/// Whether the text is the filter, a `*` standing for any number of characters.
pub(crate) fn matches(filter: &str, text: &str) -> bool {
    let Some((prefix, rest)) = filter.split_once('*') else {
        return filter == text;
    };
    let Some(text) = text.strip_prefix(prefix) else {
        return false;
    };
    text.char_indices().map(|(start, _)| start).chain([text.len()]).any(|start| matches(rest, &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_any_number_of_characters() {
        for (filter, text, expected) in [
            ("latest", "latest", true),
            ("latest", "latest1", false),
            ("dev-*", "dev-", true),
            ("dev-*", "dev-1", true),
            ("dev-*", "prod-1", false),
            ("*-rc", "1-rc", true),
            ("*-rc", "1-rc2", false),
            ("v*-rc*", "v1-rc2", true),
            ("v*-rc*", "v1", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(filter, text), expected, "{filter} {text}");
        }
    }
}
