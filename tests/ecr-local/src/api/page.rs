use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The paging members of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paging {
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl Paging {
    /// Paging does not go together with naming what is wanted.
    pub(super) fn check_absent(&self, named: &str) -> Result<()> {
        if self.next_token.is_none() && self.max_results.is_none() {
            return Ok(());
        }
        Err(Error::InvalidParameter(format!("nextToken and maxResults cannot be used together with '{named}'")))
    }

    /// Cuts a page out of items that come in the order of their keys. A token is the last key of its page, so that a page stays
    /// right when items come and go in between.
    pub(super) fn cut<T>(
        &self,
        items: impl Iterator<Item = (String, T)>,
        default: usize,
        max: usize,
    ) -> Result<(Vec<T>, Option<String>)> {
        let size = self.max_results.unwrap_or(default);
        if !(1..=max).contains(&size) {
            return Err(Error::InvalidParameter(format!(
                "Invalid parameter at 'maxResults' failed to satisfy constraint: 'must be between 1 and {max}'"
            )));
        }
        let after = self.next_token.as_deref().map(read_token).transpose()?;
        let mut rest = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after)).peekable();
        let mut page = Vec::new();
        let mut last = None;
        for (key, item) in rest.by_ref().take(size) {
            page.push(item);
            last = Some(key);
        }
        let next = last.filter(|_| rest.peek().is_some()).map(|key| URL_SAFE_NO_PAD.encode(key));
        Ok((page, next))
    }
}

fn read_token(token: &str) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        Error::InvalidParameter(
            "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'".to_owned(),
        )
    })
}
