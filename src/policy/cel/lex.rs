//! A text of CEL becomes tokens, each with its place.

use super::CelError;

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Double(f64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Every operator and bracket, the longer before those that they begin with.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// The tokens of a text, each with the offset of its first character.
///
/// # Errors
/// For what is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, CelError> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        let start = at;
        if character.is_whitespace() {
            at += 1;
            continue;
        }
        let token = match character {
            '"' | '\'' => string(&characters, &mut at)?,
            '0'..='9' => number(&characters, &mut at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let is_part = |character: &&char| character.is_ascii_alphanumeric() || **character == '_';
                let name: String = characters[at..].iter().take_while(is_part).collect();
                at += name.len();
                Token::Name(name)
            }
            _ => {
                let rest: String = characters[at..].iter().take(2).collect();
                let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
                    return Err(CelError::at(at, format!("`{character}` means nothing here"), "remove it"));
                };
                at += sign.len();
                Token::Sign(sign)
            }
        };
        tokens.push((start, token));
    }
    tokens.push((at, Token::End));
    Ok(tokens)
}

fn number(characters: &[char], at: &mut usize) -> Result<Token, CelError> {
    let start = *at;
    let digits = |from: usize| characters[from..].iter().take_while(|character| character.is_ascii_digit()).count();
    *at += digits(*at);
    let fraction = characters.get(*at) == Some(&'.') && characters.get(*at + 1).is_some_and(char::is_ascii_digit);
    if fraction {
        *at += 1 + digits(*at + 1);
    }
    let text: String = characters[start..*at].iter().collect();
    let follows = characters.get(*at).is_some_and(|character| character.is_ascii_alphanumeric());
    let token = match fraction {
        true => text.parse().ok().map(Token::Double),
        false => text.parse().ok().map(Token::Int),
    };
    token.filter(|_| !follows).ok_or_else(|| {
        CelError::at(start, "this is not a number", "write it like `5` or `2.5`; sizes in bytes, amounts in US dollars")
    })
}

fn string(characters: &[char], at: &mut usize) -> Result<Token, CelError> {
    let (start, quote) = (*at, characters[*at]);
    let mut text = String::new();
    *at += 1;
    loop {
        let Some(character) = characters.get(*at).filter(|character| **character != '\n') else {
            return Err(CelError::at(start, "the text does not end", format!("close it with {quote}")));
        };
        *at += 1;
        match character {
            character if *character == quote => return Ok(Token::Text(text)),
            '\\' => text.push(escaped(characters, at).ok_or_else(|| {
                CelError::at(*at - 1, "this is no escape", "known are \\\\ \\\" \\' \\n \\r \\t and \\uHHHH")
            })?),
            character => text.push(*character),
        }
    }
}

fn escaped(characters: &[char], at: &mut usize) -> Option<char> {
    let character = characters.get(*at)?;
    *at += 1;
    match character {
        '\\' | '"' | '\'' => Some(*character),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => {
            let hex: String = characters.get(*at..*at + 4)?.iter().collect();
            *at += 4;
            char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
        }
        _ => None,
    }
}
