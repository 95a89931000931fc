//! Who a peer is: certificates to rustls configurations, and the checks of names.
