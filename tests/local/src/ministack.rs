use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::process::{Service, guarded};
use crate::stack::{ACCESS_KEY, Options, SECRET_KEY, root};

const START_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// The stand-in for every AWS service but ECR. The functions are its child processes.
#[derive(Debug)]
pub(crate) struct Ministack {
    service: Service,
    endpoint: String,
}

impl Ministack {
    /// A loopback port that is free now. It may be taken before ministack has it, and then ministack says so.
    pub(crate) fn free_port() -> Result<u16, Error> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        Ok(port.map_err(Error::io("find a free port"))?.port())
    }

    pub(crate) fn endpoint_at(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    pub(crate) async fn start(
        port: u16,
        services_endpoint: &str,
        ecr_endpoint: &str,
        options: &Options,
        home: &Path,
        logs: &Path,
    ) -> Result<Self, Error> {
        let python = root().join(".tools/python/bin/python");
        if !python.exists() {
            return Err(Error::Missing { path: python, remedy: "run `make tools`" });
        }
        let endpoint = Self::endpoint_at(port);
        let mut command = guarded(python);
        command.arg(root().join("tests/local/src/history.py")).current_dir(home);
        // The functions inherit this environment: nothing of the caller's may be in it.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", home).env("TMPDIR", home).env("LANG", "C.UTF-8").env("PYTHONUNBUFFERED", "1");
        command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        command.env("S3_DATA_DIR", home.join("s3")).env("STATE_DIR", home.join("state"));
        command.env("MINISTACK_REGION", &options.source).env("SFN_WAIT_SCALE", options.wait_scale.to_string());
        command.env("AWS_ENDPOINT_URL", services_endpoint).env("AWS_ENDPOINT_URL_ECR", ecr_endpoint);
        command.env("AWS_ENDPOINT_URL_STS", ecr_endpoint);
        // As Lambda sets it for a function whose log format is JSON, which ministack does not.
        command.env("AWS_LAMBDA_LOG_FORMAT", "JSON");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        let service = Service::start("ministack", command, logs.join("ministack.log"))?;
        let mut ministack = Self { service, endpoint };
        ministack.healthy().await?;
        Ok(ministack)
    }

    async fn healthy(&mut self) -> Result<(), Error> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let client = client.map_err(Error::call("building an HTTP client"))?;
        let url = format!("{}/_ministack/health", self.endpoint);
        let start = Instant::now();
        loop {
            self.service.alive()?;
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return self.service.alive();
            }
            if start.elapsed() > START_LIMIT {
                return Err(self.service.failed(format!("did not answer within {} s", START_LIMIT.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn log(&self) -> &Path {
        self.service.log()
    }
}
