//! What the tests of a store in etcd share.

use std::net::SocketAddr;

use meshwright_catalog::{Catalog, EtcdSettings};
use meshwright_registry::Limits;
use meshwright_testkit::PATIENCE;

/// The registry that is shared in the etcd at `address`, as one more process has it.
pub async fn connect(address: SocketAddr) -> Catalog {
    let settings = EtcdSettings {
        endpoints: vec![address.to_string().parse().unwrap()],
        tls: None,
        login: None,
        prefix: EtcdSettings::PREFIX.to_owned(),
    };
    let connect = move || Catalog::connect(settings, Limits::default(), PATIENCE);
    let catalog = tokio::task::spawn_blocking(connect).await.unwrap();
    assert!(catalog.is_synced(), "{:?}", catalog.trouble());
    catalog
}
