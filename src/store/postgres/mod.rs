//! PostgreSQL: a connection in Rust (tokio-postgres), behind the interface that diesel has for SQLite.
//!
//! Bytes are moved by the threads of [`driver`], so that callers may block wherever they like.

mod open;
mod server;
mod session_lock;
mod tls;

pub(super) use open::open;
pub use server::Server;
pub(super) use session_lock::{SessionLock, With};

use std::{any::Any, future::Future};

use diesel::{
    connection::{
        CacheSize, Instrumentation, LoadConnection, SimpleConnection, TransactionManager,
        TransactionManagerStatus,
    },
    expression::QueryMetadata,
    internal::derives::multiconnection::{ConnectionSealed, MultiConnectionHelper},
    migration::MigrationConnection,
    pg::{Pg, PgMetadataLookup, PgTypeMetadata},
    prelude::*,
    query_builder::{Query, QueryFragment, QueryId},
    r2d2::R2D2Connection,
    sql_types::TypeMetadata,
};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection,
    async_connection_wrapper::{AsyncConnectionWrapper, BlockOn},
};

use super::driver::driver;

/// One transaction of ours at a time; a lock of the transaction, in this database alone. The number means "vggt".
pub(super) const LOCK_WRITERS: &str = "SELECT pg_advisory_xact_lock(1986488180);";

/// Waits on the thread of the caller; the bytes are moved by another.
#[derive(Debug)]
pub struct Parked;

impl BlockOn for Parked {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        pollster::block_on(future)
    }

    fn get_runtime() -> Self {
        Self
    }
}

type Inner = AsyncConnectionWrapper<AsyncPgConnection, Parked>;

/// A connection to PostgreSQL.
pub struct PgConnection(Box<Inner>);

impl PgConnection {
    /// Connects to a server.
    pub(super) fn open(server: &Server) -> ConnectionResult<Self> {
        let failed = |e: &dyn std::fmt::Display| ConnectionError::BadConnection(e.to_string());
        let driver = driver().map_err(|e| failed(&e))?;
        let server = server.clone();
        let opening = driver.spawn(async move { server.connect().await });
        let inner = pollster::block_on(opening).map_err(|e| failed(&e))??;
        let mut conn = Self(Box::new(inner.into()));
        conn.batch_execute(open::SETTINGS)
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
}

impl SimpleConnection for PgConnection {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.0.batch_execute(query)
    }
}

impl ConnectionSealed for PgConnection {}

impl Connection for PgConnection {
    type Backend = Pg;
    type TransactionManager = Transactions;

    fn establish(url: &str) -> ConnectionResult<Self> {
        let server = url.parse().map_err(ConnectionError::InvalidConnectionUrl)?;
        Self::open(&server)
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Pg> + QueryId,
    {
        self.0.execute_returning_count(source)
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        self.0.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.0.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.0.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.0.set_prepared_statement_cache_size(size);
    }
}

impl LoadConnection for PgConnection {
    type Cursor<'conn, 'query> = <Inner as LoadConnection>::Cursor<'conn, 'query>;
    type Row<'conn, 'query> = <Inner as LoadConnection>::Row<'conn, 'query>;

    fn load<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Pg> + QueryId + 'query,
        Pg: QueryMetadata<T::SqlType>,
    {
        self.0.load(source)
    }
}

/// The transactions of a [`PgConnection`].
#[derive(Debug)]
pub struct Transactions;

type InnerTransactions = <Inner as Connection>::TransactionManager;

impl TransactionManager<PgConnection> for Transactions {
    type TransactionStateData = AnsiTransactionManager;

    fn begin_transaction(conn: &mut PgConnection) -> QueryResult<()> {
        InnerTransactions::begin_transaction(&mut *conn.0)
    }

    fn rollback_transaction(conn: &mut PgConnection) -> QueryResult<()> {
        InnerTransactions::rollback_transaction(&mut *conn.0)
    }

    fn commit_transaction(conn: &mut PgConnection) -> QueryResult<()> {
        InnerTransactions::commit_transaction(&mut *conn.0)
    }

    fn transaction_manager_status_mut(conn: &mut PgConnection) -> &mut TransactionManagerStatus {
        InnerTransactions::transaction_manager_status_mut(&mut *conn.0)
    }

    fn is_broken_transaction_manager(conn: &mut PgConnection) -> bool {
        InnerTransactions::is_broken_transaction_manager(&mut *conn.0)
    }
}

impl MigrationConnection for PgConnection {
    fn setup(&mut self) -> QueryResult<usize> {
        self.0.setup()
    }
}

impl R2D2Connection for PgConnection {
    fn ping(&mut self) -> QueryResult<()> {
        self.0.ping()
    }

    fn is_broken(&mut self) -> bool {
        self.0.is_broken()
    }
}

/// Types that PostgreSQL does not come with are looked up by name; there are none of them here.
struct NoOwnTypes;

impl PgMetadataLookup for NoOwnTypes {
    fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        // No type has the number 0: the server refuses it.
        PgTypeMetadata::new(0, 0)
    }
}

impl MultiConnectionHelper for PgConnection {
    fn to_any<'a>(_: &mut <Pg as TypeMetadata>::MetadataLookup) -> &mut (dyn Any + 'a) {
        // It has no size, so that nothing is allocated.
        Box::leak(Box::new(NoOwnTypes))
    }

    fn from_any(lookup: &mut dyn Any) -> Option<&mut <Pg as TypeMetadata>::MetadataLookup> {
        let own = lookup.downcast_mut::<NoOwnTypes>();
        own.map(|own| own as &mut dyn PgMetadataLookup)
    }
}
