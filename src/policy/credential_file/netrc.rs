//! `~/.netrc`, as ftp(1) and curl read it: words, of which `machine`, `login` and `password` have one behind them.

use super::{Contents, Texts, host_site, is_word};
use crate::policy::Place;
use zeroize::Zeroizing;

#[derive(Default)]
struct Machine {
    name: String,
    user: String,
    password: Zeroizing<String>,
}

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let mut machine: Option<Machine> = None;
    let mut in_macro = false;
    for line in texts.file.lines() {
        in_macro &= !line.trim().is_empty();
        if in_macro || line.trim_start().starts_with('#') {
            continue;
        }
        let mut words = words(line).into_iter();
        while let Some(word) = words.next() {
            match (word.as_str(), &mut machine) {
                ("machine", _) => {
                    let next = Machine { name: words.next()?.to_string(), ..Machine::default() };
                    machine.replace(next).into_iter().for_each(|whole| take(whole, contents));
                }
                ("default", _) => {
                    machine.take().into_iter().for_each(|whole| take(whole, contents));
                    contents.leave_out("default", "it is for no host in particular");
                }
                ("login", Some(machine)) => machine.user = words.next()?.to_string(),
                ("password", Some(machine)) => machine.password = words.next()?,
                ("login" | "password" | "account", _) => drop(words.next()?),
                ("macdef", _) => {
                    in_macro = true;
                    break;
                }
                _ => return None,
            }
        }
    }
    machine.into_iter().for_each(|whole| take(whole, contents));
    Some(())
}

/// The words of a line; one in quotation marks may hold spaces.
fn words(line: &str) -> Vec<Zeroizing<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (mut word, mut escaped, mut end) = (String::new(), false, quoted.len());
            for (at, c) in quoted.char_indices() {
                match c {
                    _ if escaped => {
                        word.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    _ => word.push(c),
                }
            }
            words.push(Zeroizing::new(word));
            rest = quoted[end..].trim_start();
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(Zeroizing::new(rest[..end].to_owned()));
            rest = rest[end..].trim_start();
        }
    }
    words
}

fn take(machine: Machine, contents: &mut Contents) {
    let Machine { name, user, password } = machine;
    if !is_word(&user) || user.contains(':') {
        return contents.leave_out(&name, "it has no login, or one that cannot be written");
    }
    let sites = host_site(&name, Place::BasicPassword(Some(user.clone()))).into_iter().collect();
    if let Some(number) = contents.take(&name, sites, &password) {
        contents.say(format!("machine {name} login {user} password "));
        contents.stand_in(number);
        contents.say("\n");
    }
}
