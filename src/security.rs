//! Who may be at the other end of a link, and who may listen in.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use isfc::tls::{Identity, Tls};
use isfc::{Address, Medium};
use lgr_engine::owner::MemberName;
use serde::Serialize;

use crate::options::member_name;

/// How the link is protected.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct SecurityArgs {
    /// Speak TLS 1.3, as the member whose ca.pem, cert.pem and key.pem are there (see lgr pki)
    #[arg(long, conflicts_with = "insecure_plaintext", value_name = "DIR")]
    #[serde(skip)]
    pub(crate) tls: Option<PathBuf>,

    /// The only member that may be at the other end, by its certificate [default: any of the cluster]
    #[arg(long, requires = "tls", value_parser = member_name, value_name = "NAME")]
    #[serde(skip)]
    pub(crate) peer: Option<MemberName>,

    /// Let the link leave this machine although it is neither encrypted nor authenticated
    #[arg(long)]
    #[serde(skip)]
    pub(crate) insecure_plaintext: bool,
}

impl SecurityArgs {
    /// How the link at `address` is protected; `None` is plaintext. An address that other machines can reach must be
    /// protected, unless that is given up in so many words.
    pub(crate) fn protection(&self, address: &Address, member: MemberName) -> anyhow::Result<Option<Tls>> {
        let Some(dir) = &self.tls else {
            match address {
                Address::Tcp(at) if !at.ip().to_canonical().is_loopback() && !self.insecure_plaintext => {
                    bail!(
                        "{address} is not only on this machine: give --tls DIR on both sides (lgr pki makes the \
                     certificates), or, on a network of your own, --insecure-plaintext"
                    )
                }
                _ => return Ok(None),
            }
        };
        if address.medium() != Medium::Tcp {
            bail!(
                "--tls is for tcp: {address} never leaves this machine, and its socket has mode 0600, so only the \
                 same user can call"
            );
        }
        let identity = Identity::load(dir).context("--tls")?;
        let certified = identity.name().member();
        if certified != member.as_str() {
            bail!(
                "this member is called {member}, and the certificate in {} is that of {certified}: give --member \
                 {certified}, or another directory",
                dir.display()
            );
        }
        let tls = Tls::new(identity);
        Ok(Some(match self.peer {
            Some(peer) => tls.expecting(peer.as_str()),
            None => tls,
        }))
    }
}
