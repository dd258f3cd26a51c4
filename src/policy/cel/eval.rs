//! The value of an expression.

use super::Fault;
use super::facts::Facts;
use super::parse::{Expr, Operator};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Most steps of one evaluation.
const STEPS_MAX: usize = 200_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, String>),
}

/// Whether an expression is true.
pub(super) fn holds(expr: &Expr, facts: &Facts<'_>) -> Result<bool, Fault> {
    let mut evaluation = Evaluation { facts, locals: Vec::new(), steps: 0 };
    evaluation.truth(expr)
}

struct Evaluation<'a> {
    facts: &'a Facts<'a>,
    locals: Vec<Value>,
    steps: usize,
}

fn fault<T>(why: &str) -> Result<T, Fault> {
    Err(Fault(why.to_owned()))
}

impl Evaluation<'_> {
    fn truth(&mut self, expr: &Expr) -> Result<bool, Fault> {
        match self.value(expr)? {
            Value::Bool(truth) => Ok(truth),
            // The types were checked.
            _ => fault("it is neither true nor false"),
        }
    }

    fn value(&mut self, expr: &Expr) -> Result<Value, Fault> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return fault("it takes too long");
        }
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Fact(fact) => Ok(self.facts.value(*fact)),
            Expr::Local(index) => self.locals.get(*index).cloned().map_or_else(|| fault("a name is nothing"), Ok),
            Expr::Not(inner) => Ok(Value::Bool(!self.truth(inner)?)),
            Expr::Negative(inner) => match self.value(inner)? {
                Value::Int(number) => number.checked_neg().map(Value::Int).map_or_else(too_large, Ok),
                Value::Double(number) => Ok(Value::Double(-number)),
                _ => fault("it is not a number"),
            },
            Expr::Size(inner) => Ok(Value::Int(size(&self.value(inner)?))),
            Expr::Operation(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                operate(*operator, left, right)
            }
            Expr::And(left, right) => self.either(left, right, false).map(Value::Bool),
            Expr::Or(left, right) => self.either(left, right, true).map(Value::Bool),
            Expr::Choice(condition, yes, no) => {
                let chosen = if self.truth(condition)? { yes } else { no };
                self.value(chosen)
            }
            Expr::List(elements) => {
                elements.iter().map(|element| self.value(element)).collect::<Result<_, _>>().map(Value::List)
            }
            Expr::Quantified { all, list, body } => self.quantified(*all, list, body).map(Value::Bool),
        }
    }

    /// `&&`, which `false` decides alone, or `||`, which `true` does, whatever is wrong with the other side.
    fn either(&mut self, left: &Expr, right: &Expr, decides: bool) -> Result<bool, Fault> {
        let first = self.truth(left);
        if first == Ok(decides) {
            return Ok(decides);
        }
        let second = self.truth(right);
        if second == Ok(decides) {
            return Ok(decides);
        }
        first.and(second)
    }

    fn quantified(&mut self, all: bool, list: &Expr, body: &Expr) -> Result<bool, Fault> {
        let Value::List(elements) = self.value(list)? else { return fault("it is not a list") };
        let mut wrong = None;
        for element in elements {
            self.locals.push(element);
            let truth = self.truth(body);
            self.locals.pop();
            match truth {
                Ok(truth) if truth != all => return Ok(truth),
                Ok(_) => {}
                Err(fault) => wrong = Some(fault),
            }
        }
        wrong.map_or(Ok(all), Err)
    }
}

fn too_large<T>() -> Result<T, Fault> {
    fault("a number is too large")
}

fn size(value: &Value) -> i64 {
    let count = match value {
        Value::Text(text) => text.chars().count(),
        Value::List(elements) => elements.len(),
        Value::Map(entries) => entries.len(),
        _ => 0,
    };
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "as the language compares whole with decimal numbers, but for the last bits"
)]
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(one), Value::Int(other)) => Some(one.cmp(other)),
        (Value::Text(one), Value::Text(other)) => Some(one.cmp(other)),
        (Value::Double(one), Value::Double(other)) => one.partial_cmp(other),
        (Value::Int(one), Value::Double(other)) => (*one as f64).partial_cmp(other),
        (Value::Double(one), Value::Int(other)) => one.partial_cmp(&(*other as f64)),
        _ => None,
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    compare(left, right).map_or_else(|| left == right, |order| order == Ordering::Equal)
}

fn operate(operator: Operator, left: Value, right: Value) -> Result<Value, Fault> {
    let ordered = |wanted: fn(Ordering) -> bool| compare(&left, &right).is_some_and(wanted);
    let truth = match operator {
        Operator::Equal => equal(&left, &right),
        Operator::Unequal => !equal(&left, &right),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessOrEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge),
        Operator::In => match (&left, &right) {
            (Value::Text(key), Value::Map(entries)) => entries.contains_key(&key.to_lowercase()),
            (_, Value::List(elements)) => elements.iter().any(|element| equal(&left, element)),
            _ => false,
        },
        Operator::StartsWith | Operator::EndsWith | Operator::Contains => match (&left, &right) {
            (Value::Text(text), Value::Text(part)) => match operator {
                Operator::StartsWith => text.starts_with(part.as_str()),
                Operator::EndsWith => text.ends_with(part.as_str()),
                _ => text.contains(part.as_str()),
            },
            _ => false,
        },
        Operator::Index => return index(&left, &right),
        _ => return reckon(operator, left, right),
    };
    Ok(Value::Bool(truth))
}

fn index(of: &Value, at: &Value) -> Result<Value, Fault> {
    let found = match (of, at) {
        (Value::Map(entries), Value::Text(key)) => entries.get(&key.to_lowercase()).cloned().map(Value::Text),
        (Value::List(elements), Value::Int(index)) => {
            usize::try_from(*index).ok().and_then(|index| elements.get(index)).cloned()
        }
        _ => None,
    };
    let what = match at {
        Value::Text(key) => format!("there is no `{key}`"),
        _ => "there are not so many".to_owned(),
    };
    found.ok_or(Fault(what))
}

fn reckon(operator: Operator, left: Value, right: Value) -> Result<Value, Fault> {
    match (left, right) {
        (Value::Text(one), Value::Text(other)) if operator == Operator::Add => Ok(Value::Text(one + &other)),
        (Value::Double(one), Value::Double(other)) => Ok(Value::Double(match operator {
            Operator::Add => one + other,
            Operator::Subtract => one - other,
            Operator::Multiply => one * other,
            _ => one / other,
        })),
        (Value::Int(_), Value::Int(0)) if matches!(operator, Operator::Divide | Operator::Remainder) => {
            fault("it divides by zero")
        }
        (Value::Int(one), Value::Int(other)) => {
            let number = match operator {
                Operator::Add => one.checked_add(other),
                Operator::Subtract => one.checked_sub(other),
                Operator::Multiply => one.checked_mul(other),
                Operator::Divide => one.checked_div(other),
                _ => one.checked_rem(other),
            };
            number.map(Value::Int).map_or_else(too_large, Ok)
        }
        _ => fault("it cannot be reckoned"),
    }
}
