//! An execution's ARN: it tells the region to ask, and where the console shows it.

use crate::Error;

/// `arn:<partition>:states:<region>:<account>:execution:<state machine>:<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutionArn {
    arn: String,
    partition: String,
    /// The region.
    pub region: String,
    /// The account.
    pub account: String,
}

impl ExecutionArn {
    /// Reads an ARN.
    ///
    /// # Errors
    /// If it is no execution's.
    pub fn parse(arn: &str) -> Result<Self, Error> {
        match arn.split(':').collect::<Vec<_>>()[..] {
            ["arn", partition, "states", region, account, "execution", _, _] => Ok(Self {
                arn: arn.to_owned(),
                partition: partition.to_owned(),
                region: region.to_owned(),
                account: account.to_owned(),
            }),
            _ => Err(Error::MalformedArn { arn: arn.to_owned() }),
        }
    }

    /// The execution in the console.
    #[must_use]
    pub fn console(&self) -> String {
        let Self { arn, partition, region, .. } = self;
        let domain = match partition.as_str() {
            "aws-cn" => "console.amazonaws.cn",
            "aws-us-gov" => "console.amazonaws-us-gov.com",
            _ => "console.aws.amazon.com",
        };
        format!("https://{region}.{domain}/states/home?region={region}#/v2/executions/details/{arn}")
    }
}
