//! Tokens become an expression whose every part has a type that fits.

use super::super::error::hint_of;
use super::CelError;
use super::eval::Value;
use super::facts::{FACTS, Fact};
use super::lex::Token;

/// Deepest nesting of an expression.
const DEPTH_MAX: usize = 32;

/// What a part of an expression is. A list holds values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Double,
    Text,
    Ints,
    Texts,
    /// Texts by texts.
    Map,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "a boolean",
            Self::Int => "a whole number",
            Self::Double => "a decimal number",
            Self::Text => "a text",
            Self::Ints => "a list of numbers",
            Self::Texts => "a list of texts",
            Self::Map => "a map",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Double)
    }

    /// What a list holds.
    fn element(self) -> Option<Self> {
        match self {
            Self::Ints => Some(Self::Int),
            Self::Texts => Some(Self::Text),
            _ => None,
        }
    }
}

/// What two values become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    StartsWith,
    EndsWith,
    Contains,
    Index,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Literal(Value),
    Fact(Fact),
    /// A variable of a macro, by how many are around it.
    Local(usize),
    Not(Box<Self>),
    Negative(Box<Self>),
    Size(Box<Self>),
    Operation(Operator, Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Choice(Box<Self>, Box<Self>, Box<Self>),
    List(Vec<Self>),
    /// Whether something holds for all of a list, or for one.
    Quantified {
        all: bool,
        list: Box<Self>,
        body: Box<Self>,
    },
}

impl Expr {
    /// Whether a fact of this kind is asked for.
    pub(super) fn asks(&self, about: &impl Fn(Fact) -> bool) -> bool {
        match self {
            Self::Literal(_) | Self::Local(_) => false,
            Self::Fact(fact) => about(*fact),
            Self::Not(inner) | Self::Negative(inner) | Self::Size(inner) => inner.asks(about),
            Self::Operation(_, left, right) | Self::And(left, right) | Self::Or(left, right) => {
                left.asks(about) || right.asks(about)
            }
            Self::Choice(condition, yes, no) => [condition, yes, no].into_iter().any(|part| part.asks(about)),
            Self::List(elements) => elements.iter().any(|element| element.asks(about)),
            Self::Quantified { list, body, .. } => list.asks(about) || body.asks(about),
        }
    }
}

type Typed = (Expr, Type);

const RELATIONS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
];
const SUMS: [(&str, Operator); 2] = [("+", Operator::Add), ("-", Operator::Subtract)];
const PRODUCTS: [(&str, Operator); 3] =
    [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)];
const METHODS: [(&str, Operator); 3] =
    [("startsWith", Operator::StartsWith), ("endsWith", Operator::EndsWith), ("contains", Operator::Contains)];

/// Reads an expression that is true or false.
pub(super) fn condition(tokens: &[(usize, Token)]) -> Result<Expr, CelError> {
    let mut parser = Parser { tokens, at: 0, depth: 0, locals: Vec::new() };
    let start = parser.offset();
    let (expr, kind) = parser.choice()?;
    if parser.token() != &Token::End {
        return Err(parser.unexpected());
    }
    match kind {
        Type::Bool => Ok(expr),
        other => Err(CelError::at(
            start,
            format!("the condition is {}, not true or false", other.name()),
            "compare it with something",
        )),
    }
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    at: usize,
    depth: usize,
    locals: Vec<(String, Type)>,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(offset, _)| *offset)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is = matches!(self.token(), Token::Sign(found) if *found == sign);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), CelError> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(CelError { hint: format!("`{sign}` is expected here"), ..self.unexpected() })
    }

    fn unexpected(&self) -> CelError {
        let message = match self.token() {
            Token::End => "the condition ends too early".to_owned(),
            Token::Name(name) => format!("`{name}` is not expected here"),
            Token::Sign(sign) => format!("`{sign}` is not expected here"),
            _ => "this is not expected here".to_owned(),
        };
        CelError::at(self.offset(), message, "write an operator such as `&&` or `==` between two values")
    }

    fn one_of(&mut self, known: &[(&str, Operator)]) -> Option<Operator> {
        let Token::Sign(sign) = self.token() else { return None };
        let found = known.iter().find(|(known, _)| known == sign).map(|(_, operator)| *operator);
        self.at += usize::from(found.is_some());
        found
    }

    fn boolean(&self, offset: usize, (expr, kind): Typed) -> Result<Expr, CelError> {
        match kind {
            Type::Bool => Ok(expr),
            other => Err(CelError::at(
                offset,
                format!("this is {}, not true or false", other.name()),
                "compare it with something",
            )),
        }
    }

    fn choice(&mut self) -> Result<Typed, CelError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(CelError::at(self.offset(), format!("more than {DEPTH_MAX} levels deep"), "write it flatter"));
        }
        let start = self.offset();
        let first = self.either()?;
        let typed = if self.takes("?") {
            let condition = self.boolean(start, first)?;
            let (yes, kind) = self.choice()?;
            self.expect(":")?;
            let offset = self.offset();
            let (no, other) = self.choice()?;
            if kind != other {
                let message = format!("one side of the choice is {}, the other {}", kind.name(), other.name());
                return Err(CelError::at(offset, message, "make both the same"));
            }
            (Expr::Choice(Box::new(condition), Box::new(yes), Box::new(no)), kind)
        } else {
            first
        };
        self.depth -= 1;
        Ok(typed)
    }

    fn either(&mut self) -> Result<Typed, CelError> {
        let start = self.offset();
        let mut left = self.both()?;
        while self.takes("||") {
            let first = self.boolean(start, left)?;
            let offset = self.offset();
            let second = self.both()?;
            left = (Expr::Or(Box::new(first), Box::new(self.boolean(offset, second)?)), Type::Bool);
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Typed, CelError> {
        let start = self.offset();
        let mut left = self.relation()?;
        while self.takes("&&") {
            let first = self.boolean(start, left)?;
            let offset = self.offset();
            let second = self.relation()?;
            left = (Expr::And(Box::new(first), Box::new(self.boolean(offset, second)?)), Type::Bool);
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Typed, CelError> {
        let mut left = self.sum()?;
        loop {
            let offset = self.offset();
            let operator = match self.token() {
                Token::Name(name) if name == "in" => {
                    self.at += 1;
                    Some(Operator::In)
                }
                _ => self.one_of(&RELATIONS),
            };
            let Some(operator) = operator else { return Ok(left) };
            let right = self.sum()?;
            left = (operation(offset, operator, left, right)?, Type::Bool);
        }
    }

    fn sum(&mut self) -> Result<Typed, CelError> {
        let mut left = self.product()?;
        loop {
            let offset = self.offset();
            let Some(operator) = self.one_of(&SUMS) else { return Ok(left) };
            let right = self.product()?;
            let kind = left.1;
            left = (operation(offset, operator, left, right)?, kind);
        }
    }

    fn product(&mut self) -> Result<Typed, CelError> {
        let mut left = self.unary()?;
        loop {
            let offset = self.offset();
            let Some(operator) = self.one_of(&PRODUCTS) else { return Ok(left) };
            let right = self.unary()?;
            let kind = left.1;
            left = (operation(offset, operator, left, right)?, kind);
        }
    }

    fn unary(&mut self) -> Result<Typed, CelError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(CelError::at(self.offset(), format!("more than {DEPTH_MAX} levels deep"), "write it flatter"));
        }
        let typed = if self.takes("!") {
            let offset = self.offset();
            let inner = self.unary()?;
            (Expr::Not(Box::new(self.boolean(offset, inner)?)), Type::Bool)
        } else if self.takes("-") {
            let offset = self.offset();
            let (inner, kind) = self.unary()?;
            if !kind.is_number() {
                return Err(CelError::at(offset, format!("this is {}, not a number", kind.name()), "remove the `-`"));
            }
            (Expr::Negative(Box::new(inner)), kind)
        } else {
            self.member()?
        };
        self.depth -= 1;
        Ok(typed)
    }

    fn member(&mut self) -> Result<Typed, CelError> {
        let mut value = self.primary()?;
        loop {
            let offset = self.offset();
            if self.takes(".") {
                value = self.method(value)?;
            } else if self.takes("[") {
                let index = self.choice()?;
                self.expect("]")?;
                let kind = value.1.element().unwrap_or(Type::Text);
                value = (operation(offset, Operator::Index, value, index)?, kind);
            } else {
                return Ok(value);
            }
        }
    }

    /// What stands behind a value and a dot.
    fn method(&mut self, (value, kind): Typed) -> Result<Typed, CelError> {
        let offset = self.offset();
        let name = self.name()?;
        if kind == Type::Map && !matches!(self.token(), Token::Sign("(")) {
            let key = Expr::Literal(Value::Text(name));
            return Ok((Expr::Operation(Operator::Index, Box::new(value), Box::new(key)), Type::Text));
        }
        self.expect("(")?;
        match name.as_str() {
            "size" => {
                self.expect(")")?;
                size(offset, (value, kind))
            }
            "exists" | "all" => self.quantified(offset, name == "all", (value, kind)),
            _ => {
                let Some((_, operator)) = METHODS.into_iter().find(|(known, _)| *known == name) else {
                    let known = ["size", "exists", "all", "startsWith", "endsWith", "contains"];
                    return Err(CelError::at(offset, format!("unknown function `{name}`"), hint_of(&name, &known)));
                };
                let argument = self.choice()?;
                self.expect(")")?;
                Ok((operation(offset, operator, (value, kind), argument)?, Type::Bool))
            }
        }
    }

    fn quantified(&mut self, offset: usize, all: bool, (list, kind): Typed) -> Result<Typed, CelError> {
        let Some(element) = kind.element() else {
            return Err(CelError::at(offset, format!("this is {}, not a list", kind.name()), "use it on a list"));
        };
        let variable = self.name()?;
        self.expect(",")?;
        self.locals.push((variable, element));
        let start = self.offset();
        let body = self.choice()?;
        self.locals.pop();
        let body = Box::new(self.boolean(start, body)?);
        self.expect(")")?;
        Ok((Expr::Quantified { all, list: Box::new(list), body }, Type::Bool))
    }

    fn name(&mut self) -> Result<String, CelError> {
        let Token::Name(name) = self.token() else { return Err(self.unexpected()) };
        let name = name.clone();
        self.at += 1;
        Ok(name)
    }

    fn primary(&mut self) -> Result<Typed, CelError> {
        let offset = self.offset();
        let literal = match self.token() {
            Token::Int(number) => Some((Value::Int(*number), Type::Int)),
            Token::Double(number) => Some((Value::Double(*number), Type::Double)),
            Token::Text(text) => Some((Value::Text(text.clone()), Type::Text)),
            Token::Name(name) if name == "true" || name == "false" => Some((Value::Bool(name == "true"), Type::Bool)),
            _ => None,
        };
        if let Some((value, kind)) = literal {
            self.at += 1;
            return Ok((Expr::Literal(value), kind));
        }
        if self.takes("(") {
            let inner = self.choice()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes("[") {
            return self.list(offset);
        }
        let Token::Name(name) = self.token().clone() else { return Err(self.unexpected()) };
        self.at += 1;
        self.named(offset, &name)
    }

    fn list(&mut self, offset: usize) -> Result<Typed, CelError> {
        let (mut elements, mut kind) = (Vec::new(), None);
        while !self.takes("]") {
            let start = self.offset();
            let (element, found) = self.choice()?;
            if *kind.get_or_insert(found) != found {
                return Err(CelError::at(start, "the list holds values of several types", "make all of them the same"));
            }
            elements.push(element);
            if !self.takes(",") {
                self.expect("]")?;
                break;
            }
        }
        let kind = match kind {
            Some(Type::Int) => Type::Ints,
            Some(Type::Text) => Type::Texts,
            _ => {
                return Err(CelError::at(
                    offset,
                    "a list must hold texts or whole numbers",
                    "write it like `[\"a\", \"b\"]`",
                ));
            }
        };
        Ok((Expr::List(elements), kind))
    }

    fn named(&mut self, offset: usize, name: &str) -> Result<Typed, CelError> {
        if let Some(index) = self.locals.iter().rposition(|(local, _)| local == name) {
            return Ok((Expr::Local(index), self.locals[index].1));
        }
        if matches!(name, "size" | "has") && self.takes("(") {
            let start = self.offset();
            let typed = self.choice()?;
            self.expect(")")?;
            if name == "size" {
                return size(start, typed);
            }
            return match typed.0 {
                Expr::Operation(Operator::Index, map, key) if typed.1 == Type::Text => {
                    Ok((Expr::Operation(Operator::In, key, map), Type::Bool))
                }
                _ => Err(CelError::at(start, "`has` asks for a header", "write it like `has(request.headers.accept)`")),
            };
        }
        let mut roots: Vec<&str> = FACTS.iter().map(|(root, ..)| *root).collect();
        roots.dedup();
        if !roots.contains(&name) {
            return Err(CelError::at(offset, format!("unknown name `{name}`"), hint_of(name, &roots)));
        }
        self.expect(".")?;
        let offset = self.offset();
        let field = self.name()?;
        let of_root = FACTS.iter().filter(|(root, ..)| *root == name);
        let Some((.., kind, fact)) = of_root.clone().find(|(_, known, ..)| *known == field) else {
            let known: Vec<&str> = of_root.map(|(_, known, ..)| *known).collect();
            return Err(CelError::at(offset, format!("`{name}` has no `{field}`"), hint_of(&field, &known)));
        };
        Ok((Expr::Fact(*fact), *kind))
    }
}

fn size(offset: usize, (value, kind): Typed) -> Result<Typed, CelError> {
    match kind {
        Type::Text | Type::Ints | Type::Texts | Type::Map => Ok((Expr::Size(Box::new(value)), Type::Int)),
        other => Err(CelError::at(offset, format!("{} has no size", other.name()), "use it on a text or a list")),
    }
}

/// An operation on values of types that it is for.
fn operation(offset: usize, operator: Operator, left: Typed, right: Typed) -> Result<Expr, CelError> {
    let ((first, one), (second, other)) = (left, right);
    let fits = match operator {
        Operator::Equal | Operator::Unequal => one == other || (one.is_number() && other.is_number()),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            (one.is_number() && other.is_number()) || (one, other) == (Type::Text, Type::Text)
        }
        Operator::In => other.element() == Some(one) || (one, other) == (Type::Text, Type::Map),
        Operator::Add => one == other && (one.is_number() || one == Type::Text),
        Operator::Subtract | Operator::Multiply | Operator::Divide => one == other && one.is_number(),
        Operator::Remainder => (one, other) == (Type::Int, Type::Int),
        Operator::StartsWith | Operator::EndsWith | Operator::Contains => (one, other) == (Type::Text, Type::Text),
        Operator::Index => match one {
            Type::Map => other == Type::Text,
            one => one.element().is_some() && other == Type::Int,
        },
    };
    if fits {
        return Ok(Expr::Operation(operator, Box::new(first), Box::new(second)));
    }
    let message = format!("this is not for {} and {}", one.name(), other.name());
    Err(CelError::at(offset, message, "make both sides what it is for; a whole number becomes a decimal one as `2.0`"))
}
