//! One connection to PostgreSQL, for a process without a runtime: each call waits for its answer, for a bounded time.
//!
//! A connection that was lost in the middle of a transaction leaves open whether that was committed. So a transaction is
//! written to be begun again: it reads in the database where things stand, and finds its own work done if it was.

use super::address::{Protection, Server, StoreAddress};
use super::passfile;
use super::tls::Connector;
use crate::store::{LedgerError, StoreError};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

/// How long to wait for a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long to wait for a server that is just starting, or recovering from a crash.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// How long to sleep between two attempts to reach such a server.
const RECOVERY_PAUSE: Duration = Duration::from_millis(50);
/// How long to wait for one answer. The server gives up a little earlier by itself, and says so.
const ANSWER_MAX: Duration = Duration::from_secs(70);
/// How often a transaction is begun that meets another, or loses its connection.
const ATTEMPTS_MAX: u32 = 8;
/// How long the other end may be silent before it is asked whether it is there, and how long it may not answer then.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// What every connection is held to: names are looked for in our schema alone, one statement takes 60 seconds at most, waits 30 for
/// a lock, and whoever falls silent within a transaction loses what it locked after two minutes.
const SETTINGS: &str = "SET search_path = omni, pg_temp; SET statement_timeout = '60s'; SET lock_timeout = '30s';
    SET idle_in_transaction_session_timeout = '120s'; SET synchronous_commit = on; SET client_min_messages = warning;
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off";

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is gone. What was under way may have been done or not.
    Lost(String),
    /// The server refused.
    Sql(tokio_postgres::Error),
    /// Something else than the server.
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let gone = |code: &SqlState| {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code)
                || code.code().starts_with("08")
        };
        let broken = std::error::Error::source(&error).is_some_and(|source| source.is::<io::Error>());
        match error.code() {
            Some(code) if gone(code) => Self::Lost(tell(&error)),
            None if error.is_closed() || broken => Self::Lost(tell(&error)),
            _ => Self::Sql(error),
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Self {
        Self::Store(error.into())
    }
}

/// What the server says, or what the system does of the connection.
fn tell(error: &tokio_postgres::Error) -> String {
    if let Some(told) = error.as_db_error() {
        let hint = told.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        return format!("{}{hint}", told.message());
    }
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// A connection, made anew when it is lost.
pub(super) struct Link {
    address: StoreAddress,
    runtime: Runtime,
    client: RefCell<Client>,
    statements: RefCell<HashMap<String, Statement>>,
    /// Whether it fell silent: what an answer that comes after all belongs to, nobody could tell.
    dead: Cell<bool>,
    /// Whether a transaction is under way, which no step of it begins again by itself.
    inside: Cell<bool>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Link({})", self.address)
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::StoreAway`] with what the server or the system says.
    pub fn open(address: &StoreAddress) -> Result<Self, StoreError> {
        let away = |cause: String| StoreError::StoreAway { store: address.to_string(), cause };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| away(error.to_string()))?;
        let client = connect(&runtime, address)?;
        let (client, statements) = (RefCell::new(client), RefCell::default());
        Ok(Self {
            address: address.clone(),
            runtime,
            client,
            statements,
            dead: Cell::new(false),
            inside: Cell::new(false),
        })
    }

    /// Where it leads.
    pub fn address(&self) -> &StoreAddress {
        &self.address
    }

    fn reconnect(&self) -> Result<(), StoreError> {
        self.statements.borrow_mut().clear();
        let client = connect(&self.runtime, &self.address)?;
        drop(self.client.replace(client));
        self.dead.set(false);
        Ok(())
    }

    /// Waits for an answer.
    fn wait<T: Send>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>> + Send) -> Result<T, Fault> {
        if self.dead.get() {
            return Err(Fault::Lost("the connection fell silent".to_owned()));
        }
        match drive(&self.runtime, async { tokio::time::timeout(ANSWER_MAX, answer).await }) {
            Ok(answered) => Ok(answered?),
            Err(_) => {
                self.dead.set(true);
                Err(Fault::Lost(format!("no answer within {} seconds", ANSWER_MAX.as_secs())))
            }
        }
    }

    fn statement(&self, text: &str) -> Result<Statement, Fault> {
        if let Some(known) = self.statements.borrow().get(text) {
            return Ok(known.clone());
        }
        let statement = self.wait(self.client.borrow().prepare(text))?;
        self.statements.borrow_mut().insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The rows that a statement gives.
    pub fn query(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(text)?;
        self.wait(self.client.borrow().query(&statement, parameters))
    }

    /// The one row that a statement gives, if it gives one.
    pub fn query_opt(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>, Fault> {
        let statement = self.statement(text)?;
        self.wait(self.client.borrow().query_opt(&statement, parameters))
    }

    /// The row that a statement always gives.
    pub fn query_one(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<Row, Fault> {
        let statement = self.statement(text)?;
        self.wait(self.client.borrow().query_one(&statement, parameters))
    }

    /// How many rows a statement changed.
    pub fn execute(&self, text: &str, parameters: &[Parameter<'_>]) -> Result<u64, Fault> {
        let statement = self.statement(text)?;
        self.wait(self.client.borrow().execute(&statement, parameters))
    }

    /// Statements without parameters.
    pub fn batch(&self, text: &str) -> Result<(), Fault> {
        self.wait(self.client.borrow().batch_execute(text))
    }

    /// Does `act` in one transaction, and again from its beginning when another is in the way or the connection is lost.
    ///
    /// # Errors
    /// A [`StoreError`]; then nothing of it was done, unless the connection was lost in the middle of the commit and could
    /// not be made again.
    pub fn transaction<T>(
        &self,
        step: &'static str,
        mut act: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.again(step, |link| link.attempt("BEGIN", &mut act))
    }

    /// Reads at one moment.
    ///
    /// # Errors
    /// A [`StoreError`].
    pub fn moment<T>(&self, mut act: impl FnMut(&Self) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.again("read", |link| link.attempt("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", &mut act))
    }

    /// Does what is one statement, or can be broken off between two.
    ///
    /// # Errors
    /// A [`StoreError`].
    pub fn again<T>(
        &self,
        step: &'static str,
        mut act: impl FnMut(&Self) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let mut attempts = 1;
        loop {
            match act(self) {
                Ok(done) => return Ok(done),
                Err(fault) if self.inside.get() => return Err(self.explain(step, fault)),
                Err(Fault::Lost(_)) if attempts < ATTEMPTS_MAX => self.reconnect()?,
                Err(Fault::Sql(error)) if attempts < ATTEMPTS_MAX && meets_another(&error) => {}
                Err(fault) => return Err(self.explain(step, fault)),
            }
            attempts += 1;
        }
    }

    fn attempt<T>(&self, begin: &str, act: &mut impl FnMut(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.batch(begin)?;
        self.inside.set(true);
        let done = act(self);
        self.inside.set(false);
        match done {
            Ok(done) => self.batch("COMMIT").map(|()| done),
            Err(fault) => {
                // Where this fails the connection is gone, and the transaction with it.
                let _ = self.batch("ROLLBACK");
                Err(fault)
            }
        }
    }

    /// What a person is told of it.
    pub fn explain(&self, step: &'static str, fault: Fault) -> StoreError {
        let store = self.address.to_string();
        match fault {
            Fault::Store(error) => error,
            Fault::Lost(cause) => StoreError::StoreAway { store, cause },
            Fault::Sql(error) => StoreError::StoreFailed { step, store, cause: tell(&error) },
        }
    }
}

/// Whether beginning again may help.
fn meets_another(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Runs a future to its end. Whoever asks from within another runtime cannot run one in the same thread; a session never does.
fn drive<T: Send>(runtime: &Runtime, future: impl Future<Output = T> + Send) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return runtime.block_on(future);
    }
    let driven = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
    driven.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Connects, and waits for a server that says it is only just starting.
fn connect(runtime: &Runtime, address: &StoreAddress) -> Result<Client, StoreError> {
    let deadline = Instant::now() + RECOVERY_MAX;
    let config = config(address)?;
    loop {
        let fault = match attempt_to_connect(runtime, address, &config) {
            Ok(client) => return Ok(client),
            Err(fault) => fault,
        };
        let (starting, cause) = match fault {
            Fault::Store(error) => return Err(error),
            Fault::Lost(cause) => (false, cause),
            Fault::Sql(error) => (false, tell(&error)),
        };
        let starting = starting || cause.contains("the database system is");
        if !starting || Instant::now() >= deadline {
            return Err(StoreError::StoreAway { store: address.to_string(), cause });
        }
        std::thread::sleep(RECOVERY_PAUSE);
    }
}

fn config(address: &StoreAddress) -> Result<Config, StoreError> {
    let mut config = Config::new();
    config.user(&address.user).dbname(&address.database).application_name("omni");
    let found = match (&address.password, passfile::path_from_env()) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(path)) => passfile::password(&path, address)?,
        (None, None) => None,
    };
    if let Some(password) = found {
        config.password(password);
    }
    config.ssl_mode(if address.protection == Protection::Local { SslMode::Disable } else { SslMode::Require });
    Ok(config)
}

fn attempt_to_connect(runtime: &Runtime, address: &StoreAddress, config: &Config) -> Result<Client, Fault> {
    let lost = |error: io::Error| Fault::Lost(error.to_string());
    // Before the runtime: looking names up there would take a thread.
    let (connector, addresses) = match (&address.server, &address.protection) {
        (Server::Socket(_), _) => (None, Vec::new()),
        (Server::Name(name), protection) => {
            let addresses: Vec<SocketAddr> = (name.as_str(), address.port).to_socket_addrs().map_err(lost)?.collect();
            match protection {
                Protection::Local => (None, addresses),
                Protection::Tls(roots) => (Some(Connector::new(address, name, roots.as_deref())?), addresses),
            }
        }
    };
    let connecting = async {
        match (&address.server, connector) {
            (Server::Socket(directory), _) => {
                let path = directory.join(format!(".s.PGSQL.{}", address.port));
                let stream = UnixStream::connect(&path).await;
                let stream = stream.map_err(|error| Fault::Lost(format!("{}: {error}", path.display())))?;
                let (client, connection) = config.connect_raw(stream, NoTls).await?;
                drop(tokio::spawn(connection));
                Ok::<Client, Fault>(client)
            }
            (_, None) => {
                let (client, connection) = config.connect_raw(dial(&addresses).await.map_err(lost)?, NoTls).await?;
                drop(tokio::spawn(connection));
                Ok(client)
            }
            (_, Some(connector)) => {
                let stream = dial(&addresses).await.map_err(lost)?;
                let (client, connection) = config.connect_raw(stream, connector).await?;
                drop(tokio::spawn(connection));
                Ok(client)
            }
        }
    };
    let made = drive(runtime, async {
        tokio::time::timeout(CONNECT_MAX, async {
            let client: Client = connecting.await?;
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        })
        .await
    });
    made.unwrap_or_else(|_| Err(Fault::Lost(format!("no connection within {} seconds", CONNECT_MAX.as_secs()))))
}

/// Connects to the first address that answers, and has the kernel notice when the other end is gone.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name leads to no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
                rustix::net::sockopt::set_tcp_keepintvl(&stream, KEEPALIVE)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
