//! What `meshwright_config::load` makes of texts: one module for each idea, one binary for all of them.

mod advice;
mod case;
mod checks;
mod destination_rule;
mod documents;
mod gateway;
mod health;
mod hostile;
mod load_balancer;
mod properties;
mod reference;
mod resilience_policy;
mod samples;
mod services;
mod streams;
mod tls;
mod union;
mod virtual_service;
