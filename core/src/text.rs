//! Spellings of names.

/// `nRows` becomes `n_rows`: the identifier of a field in forms and in code.
pub fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for character in camel.chars() {
        if character.is_uppercase() {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.extend(character.to_lowercase());
        } else if character.is_alphanumeric() {
            snake.push(character);
        } else if !snake.ends_with('_') {
            snake.push('_');
        }
    }
    snake
}

/// `nRows` becomes `N rows`: the label of a field that has none.
pub fn label(camel: &str) -> String {
    let spaced = snake_case(camel).replace('_', " ");
    let mut characters = spaced.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camel_case_keys_become_identifiers_and_labels() {
        for (camel, snake) in [
            ("inputStr", "input_str"),
            ("zip1Url", "zip1_url"),
            ("nRows", "n_rows"),
            ("plain", "plain"),
            ("with-dash", "with_dash"),
            ("", ""),
        ] {
            assert_eq!(snake_case(camel), snake);
        }
        assert_eq!(
            label("attributeFilterStrategy"),
            "Attribute filter strategy"
        );
    }
}
