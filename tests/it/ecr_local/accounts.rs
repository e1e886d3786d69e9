//! Callers of other accounts: roles that are assumed, and what a repository's policy lets them do.

use std::sync::LazyLock;
use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::{Credentials, ProvideCredentials};
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenOutput;
use ecr_local::{Config, EcrLocal, Fault, Role};
use reqwest::header::LOCATION;
use serde_json::{Value, json};

use super::distribution::{Registry, refusal, refused as refused_v2};
use super::{ACCOUNT, PART_SIZE, REGION, World, client, client_of, digest, manifest, push_image, refused, upload};
use crate::world::sdk_config;

const OWNER: &str = "210987654321";
const ROLE: &str = "arn:aws:iam::210987654321:role/replication/target";

/// A local ECR with a role in another account.
async fn world(external_id: Option<&str>) -> World {
    let role = Role::new(ROLE).unwrap();
    let role = external_id.map_or(role.clone(), |id| role.with_external_id(id));
    World::with(Config { part_size: PART_SIZE, roles: vec![role], ..Config::default() }).await
}

/// Assumes a role as a client of the SDK does.
async fn assume(ecr: &EcrLocal, role: &str, external_id: Option<&str>) -> Result<Credentials, String> {
    let mut provider = AssumeRoleProvider::builder(role).session_name("run");
    if let Some(id) = external_id {
        provider = provider.external_id(id);
    }
    let provider = provider.configure(&sdk_config(&ecr.endpoint(), REGION).await).build().await;
    provider.provide_credentials().await.map_err(|error| DisplayErrorContext(error).to_string())
}

/// A policy with one statement.
fn policy(effect: &str, principal: &Value, action: &Value) -> String {
    statements(&json!([{ "Sid": "one", "Effect": effect, "Principal": principal, "Action": action }]))
}

fn statements(statements: &Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

async fn set_policy(owner: &Client, text: &str) {
    owner.set_repository_policy().repository_name("app").policy_text(text).send().await.unwrap();
}

/// An SDK client of the account that has a repository, and the repository.
async fn owner(ecr: &EcrLocal) -> Client {
    let owner = client(ecr, OWNER, REGION);
    owner.create_repository().repository_name("app").send().await.unwrap();
    owner
}

#[expect(deprecated, reason = "older clients name a registry still")]
async fn token_for(client: &Client, account: &str) -> GetAuthorizationTokenOutput {
    client.get_authorization_token().registry_ids(account).send().await.unwrap()
}

/// Made once, since that takes longer than a call. It keeps no connection, which would be of one test's runtime.
static HTTP: LazyLock<reqwest::Client> =
    LazyLock::new(|| reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap());

/// A call of the API or of STS without the SDK.
fn signed(ecr: &EcrLocal, access_key: &str, service: &str) -> reqwest::RequestBuilder {
    let scope = format!("{access_key}/20260101/{REGION}/{service}/aws4_request");
    HTTP.post(ecr.endpoint())
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
}

fn assume_role(ecr: &EcrLocal, access_key: &str, members: &str) -> reqwest::RequestBuilder {
    let body = format!("Action=AssumeRole&Version=2011-06-15&{members}");
    signed(ecr, access_key, "sts").header("content-type", "application/x-www-form-urlencoded").body(body)
}

/// The status and the body of an answer in XML.
async fn xml(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/xml");
    (response.status().as_u16(), response.text().await.unwrap())
}

/// What is between the tags of an element.
fn element<'xml>(body: &'xml str, name: &str) -> &'xml str {
    let (_, rest) = body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {body}"));
    rest.split_once(&format!("</{name}>")).unwrap().0
}

#[tokio::test]
async fn whoever_assumes_a_role_is_in_its_account() {
    let World { ecr, client: here } = world(Some("secret")).await;
    let credentials = assume(&ecr, ROLE, Some("secret")).await.unwrap();
    let left = credentials.expiry().unwrap().elapsed().unwrap_err().duration();
    assert!((Duration::from_secs(3500)..=Duration::from_hours(1)).contains(&left), "{left:?}");

    let there = client_of(&ecr, credentials, REGION);
    let created = there.create_repository().repository_name("app").send().await.unwrap();
    assert_eq!(created.repository().unwrap().registry_id(), Some(OWNER));
    push_image(&there, "app", b"{}", &[b"layer"], Some("v1")).await;
    assert!(ecr.view(OWNER, REGION, "app").unwrap().tags.contains_key("v1"));
    refused!(here.list_images().repository_name("app"), is_repository_not_found_exception);

    let stats = ecr.stats();
    assert_eq!(stats.calls(REGION, "AssumeRole"), 1);
    assert_eq!(stats.regions.len(), 1, "{stats:?}");
}

#[tokio::test]
async fn a_role_is_open_to_those_who_know_its_external_id() {
    let World { ecr, .. } = world(Some("secret")).await;
    let other = "arn:aws:iam::210987654321:role/other";
    for (role, external_id) in [(other, Some("secret")), (ROLE, None), (ROLE, Some("Secret"))] {
        let error = assume(&ecr, role, external_id).await.unwrap_err();
        assert!(error.contains("AccessDenied"), "{error}");
        let user = format!("User: arn:aws:iam::{ACCOUNT}:root");
        let message = format!("{user} is not authorized to perform: sts:AssumeRole on resource: {role}");
        assert!(error.contains(&message), "{error}");
    }
    ecr.add_role(Role::new(other).unwrap());
    assume(&ecr, other, None).await.unwrap();
    // One without an external ID is open to those who name any.
    assume(&ecr, other, Some("any")).await.unwrap();
    // The last one with the same ARN counts.
    ecr.add_role(Role::new(ROLE).unwrap());
    assume(&ecr, ROLE, None).await.unwrap();
}

#[tokio::test]
async fn assume_role_is_answered_in_xml() {
    let World { ecr, .. } = world(None).await;
    let named = format!("RoleArn={}&RoleSessionName=run%40home", ROLE.replace(':', "%3A").replace('/', "%2F"));
    let (status, body) = xml(assume_role(&ecr, ACCOUNT, &named)).await;
    assert_eq!(status, 200);
    assert!(body.starts_with("<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"), "{body}");
    let session = "arn:aws:sts::210987654321:assumed-role/target/run@home";
    assert_eq!(element(element(&body, "AssumedRoleUser"), "Arn"), session);
    let credentials = element(element(&body, "AssumeRoleResult"), "Credentials");
    let (key, token) = (element(credentials, "AccessKeyId"), element(credentials, "SessionToken"));
    assert!(key.starts_with("ASIA") && key.len() == 20, "{key}");
    element(credentials, "SecretAccessKey");
    element(credentials, "Expiration").parse::<jiff::Timestamp>().unwrap();

    // A role may go on to another, which its session token is needed for, too.
    let (status, body) = xml(assume_role(&ecr, key, &named)).await;
    assert_eq!((status, element(element(&body, "Error"), "Code")), (403, "InvalidClientTokenId"));
    let chained = assume_role(&ecr, key, &named.replace("target", "other")).header("x-amz-security-token", token);
    let (status, body) = xml(chained).await;
    assert_eq!((status, element(&body, "Code")), (403, "AccessDenied"));
    assert!(element(&body, "Message").starts_with(&format!("User: {session} is not authorized")), "{body}");

    for (members, code) in [
        ("RoleSessionName=run".to_owned(), "AccessDenied"),
        (format!("RoleArn={ROLE}"), "ValidationError"),
        (format!("RoleArn={ROLE}&RoleSessionName=a+b"), "ValidationError"),
        (format!("{named}&DurationSeconds=899"), "ValidationError"),
        (format!("{named}&DurationSeconds=43201"), "ValidationError"),
    ] {
        let (status, body) = xml(assume_role(&ecr, ACCOUNT, &members)).await;
        assert_eq!(element(&body, "Code"), code, "{members}");
        assert_eq!(element(&body, "Type"), "Sender");
        assert_eq!(status, if code == "AccessDenied" { 403 } else { 400 });
    }
    let other = signed(&ecr, ACCOUNT, "sts").header("content-type", "application/x-www-form-urlencoded");
    let (status, body) = xml(other.body("Action=GetCallerIdentity&Version=2011-06-15")).await;
    assert_eq!((status, element(&body, "Code")), (400, "InvalidAction"));
}

#[tokio::test]
async fn credentials_of_a_role_go_with_their_token_and_expire() {
    let World { ecr, .. } = world(None).await;
    let credentials = assume(&ecr, ROLE, None).await.unwrap();
    let (key, secret) = (credentials.access_key_id(), credentials.secret_access_key());
    for token in [None, Some("other".to_owned())] {
        let client = client_of(&ecr, Credentials::new(key, secret, token, None, "test"), REGION);
        let error = client.describe_repositories().send().await.unwrap_err();
        assert_eq!(error.code(), Some("UnrecognizedClientException"));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    }
    let client = client_of(&ecr, credentials.clone(), REGION);
    client.describe_repositories().send().await.unwrap();
    ecr.expire_sessions();
    let error = client.describe_repositories().send().await.unwrap_err();
    assert_eq!(error.code(), Some("ExpiredTokenException"));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    // No call is counted of those who were not let in.
    assert_eq!(ecr.stats().calls(REGION, "DescribeRepositories"), 1);
    let again = assume_role(&ecr, credentials.access_key_id(), &format!("RoleArn={ROLE}&RoleSessionName=run"));
    let (status, body) = xml(again.header("x-amz-security-token", credentials.session_token().unwrap())).await;
    assert_eq!((status, element(&body, "Code")), (403, "ExpiredToken"));

    // They expire by themselves as well, and sooner if the caller wants it so.
    let config =
        Config { session_ttl: Duration::from_hours(2), roles: vec![Role::new(ROLE).unwrap()], ..Config::default() };
    let world = World::with(config).await;
    for (duration, seconds) in [("", 7200), ("&DurationSeconds=900", 900), ("&DurationSeconds=43200", 7200)] {
        let members = format!("RoleArn={ROLE}&RoleSessionName=run{duration}");
        let (_, body) = xml(assume_role(&world.ecr, ACCOUNT, &members)).await;
        let expiration: jiff::Timestamp = element(&body, "Expiration").parse().unwrap();
        let left = expiration.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((seconds - 100..=seconds).contains(&left), "{duration} {left}");
    }
    let config = Config { session_ttl: Duration::ZERO, roles: vec![Role::new(ROLE).unwrap()], ..Config::default() };
    let world = World::with(config).await;
    let credentials = assume(&world.ecr, ROLE, None).await.unwrap();
    let client = client_of(&world.ecr, credentials, REGION);
    assert_eq!(client.describe_repositories().send().await.unwrap_err().code(), Some("ExpiredTokenException"));
}

#[tokio::test]
async fn faults_reach_assume_role() {
    let World { ecr, .. } = world(None).await;
    let call = || assume_role(&ecr, ACCOUNT, &format!("RoleArn={ROLE}&RoleSessionName=run"));
    let fault = || Fault::new("AssumeRole", 503, "ServiceUnavailable");
    ecr.fault(fault().in_region("us-east-1").for_ever());
    ecr.fault(fault().in_region(REGION).skip(1));
    assert_eq!(xml(call()).await.0, 200);
    let (status, body) = xml(call()).await;
    assert_eq!((status, element(&body, "Code"), element(&body, "Type")), (503, "ServiceUnavailable", "Receiver"));
    assert_eq!(xml(call()).await.0, 200);
    ecr.fault(Fault::cut("AssumeRole", 0));
    assert!(call().send().await.is_err());
    ecr.fault(Fault::of("AssumeRole").body("<AssumeRoleResponse/>"));
    assert_eq!(call().send().await.unwrap().text().await.unwrap(), "<AssumeRoleResponse/>");
    assert_eq!(ecr.stats().calls(REGION, "AssumeRole"), 5);
    // The SDK tries again after a server's error.
    ecr.fault(fault());
    assume(&ecr, ROLE, None).await.unwrap();
    assert_eq!(ecr.stats().calls(REGION, "AssumeRole"), 7);
}

/// Each operation about a repository: the action that it takes, and what its request needs besides the repository.
fn operations() -> Vec<(&'static str, &'static str, Value)> {
    let digest = digest(b"{}");
    let upload = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    let arn = format!("arn:aws:ecr:{REGION}:{OWNER}:repository/app");
    let rules = json!({ "rules": [], "padding": "-".repeat(100) }).to_string();
    let everyone = policy("Allow", &json!("*"), &json!("*"));
    vec![
        ("BatchCheckLayerAvailability", "", json!({ "layerDigests": [digest] })),
        ("BatchDeleteImage", "", json!({ "imageIds": [{ "imageTag": "v1" }] })),
        ("BatchGetImage", "", json!({ "imageIds": [{ "imageTag": "v1" }] })),
        ("CompleteLayerUpload", "", json!({ "uploadId": upload, "layerDigests": [digest] })),
        ("DeleteLifecyclePolicy", "", json!({})),
        ("DeleteRepositoryPolicy", "", json!({})),
        ("DescribeImages", "", json!({})),
        ("DescribeRepositories", "", json!({ "repositoryNames": ["app"] })),
        ("GetDownloadUrlForLayer", "", json!({ "layerDigest": digest })),
        ("GetLifecyclePolicy", "", json!({})),
        ("GetRepositoryPolicy", "", json!({})),
        ("InitiateLayerUpload", "", json!({})),
        ("ListImageReferrers", "BatchGetImage", json!({ "subjectId": { "imageDigest": digest } })),
        ("ListImages", "", json!({})),
        ("ListTagsForResource", "", json!({ "resourceArn": arn })),
        ("PutImage", "", json!({ "imageManifest": manifest(b"{}", &[]).to_string() })),
        ("PutImageScanningConfiguration", "", json!({ "imageScanningConfiguration": { "scanOnPush": true } })),
        ("PutImageTagMutability", "", json!({ "imageTagMutability": "MUTABLE" })),
        ("PutLifecyclePolicy", "", json!({ "lifecyclePolicyText": rules })),
        ("SetRepositoryPolicy", "", json!({ "policyText": everyone })),
        ("TagResource", "", json!({ "resourceArn": arn, "tags": [{ "Key": "a", "Value": "b" }] })),
        ("UntagResource", "", json!({ "resourceArn": arn, "tagKeys": ["a"] })),
        (
            "UploadLayerPart",
            "",
            json!({ "uploadId": upload, "partFirstByte": 0, "partLastByte": 0, "layerPartBlob": "AA==" }),
        ),
        // The last, since it takes the repository away.
        ("DeleteRepository", "", json!({ "force": true })),
    ]
}

/// The exception and the message of a call, both empty for one that succeeds.
async fn exception(ecr: &EcrLocal, operation: &str, repository: &str, members: &Value) -> (String, String) {
    let mut body = members.clone();
    let target = format!("AmazonEC2ContainerRegistry_V20150921.{operation}");
    if body.get("resourceArn").is_none() {
        body["registryId"] = json!(OWNER);
        if operation != "DescribeRepositories" {
            body["repositoryName"] = json!(repository);
        }
    }
    let call = signed(ecr, ACCOUNT, "ecr").header("x-amz-target", target).body(body.to_string());
    let response = call.send().await.unwrap();
    let status = response.status();
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    let text = |member: &str| answer[member].as_str().unwrap_or_default().to_owned();
    assert!(status == 200 || status == 400, "{operation} {answer}");
    (text("__type"), text("message"))
}

#[tokio::test]
async fn another_accounts_repository_is_for_those_whom_its_policy_allows() {
    let World { ecr, .. } = World::start().await;
    let owner = owner(&ecr).await;
    for (operation, action, members) in operations() {
        let action = if action.is_empty() { operation } else { action };
        let message = format!(
            "User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: ecr:{action} on resource: \
             arn:aws:ecr:{REGION}:{OWNER}:repository/app because no resource-based policy allows the ecr:{action} action"
        );
        // Neither is one action another, nor one account another.
        let one_other = if action == "ListImages" { "ecr:DescribeImages" } else { "ecr:ListImages" };
        for (principal, actions) in [(json!({ "AWS": ACCOUNT }), one_other), (json!({ "AWS": OWNER }), "ecr:*")] {
            set_policy(&owner, &policy("Allow", &principal, &json!(actions))).await;
            let denied = exception(&ecr, operation, "app", &members).await;
            assert_eq!(denied, ("AccessDeniedException".to_owned(), message.clone()), "{operation}");
        }
        let allowed = policy("Allow", &json!({ "AWS": ACCOUNT }), &json!(format!("ecr:{action}")));
        set_policy(&owner, &allowed).await;
        let (name, _) = exception(&ecr, operation, "app", &members).await;
        assert_ne!(name, "AccessDeniedException", "{operation}");
    }
    assert!(ecr.view(OWNER, REGION, "app").is_none());
    for (operation, _, members) in operations() {
        let (name, _) = exception(&ecr, operation, "app", &members).await;
        assert_eq!(name, "RepositoryNotFoundException", "{operation}");
    }
}

#[tokio::test]
async fn a_registry_of_another_account_is_closed() {
    let World { ecr, client: here } = World::start().await;
    let owner = owner(&ecr).await;
    set_policy(&owner, &policy("Allow", &json!("*"), &json!("*"))).await;
    for call in [
        exception(&ecr, "CreateRepository", "new", &json!({})).await,
        exception(&ecr, "DescribeRepositories", "", &json!({})).await,
    ] {
        assert_eq!(call.0, "AccessDeniedException", "{}", call.1);
        assert!(call.1.contains("repository/new because") || call.1.contains("repository/* because"), "{}", call.1);
    }
    assert!(ecr.view(OWNER, REGION, "new").is_none());
    // To name one's own is as to name none.
    here.create_repository().registry_id(ACCOUNT).repository_name("new").send().await.unwrap();
    let named = here.describe_repositories().registry_id(ACCOUNT).send().await.unwrap();
    assert_eq!(named.repositories().len(), 1);
}

#[tokio::test]
async fn a_policy_names_accounts_roles_and_actions() {
    let World { ecr, client: other } = world(None).await;
    let repository = client(&ecr, "111122223333", REGION);
    repository.create_repository().repository_name("app").send().await.unwrap();
    let role = client_of(&ecr, assume(&ecr, ROLE, None).await.unwrap(), REGION);
    let account = client(&ecr, OWNER, REGION);
    let allow = |principal: &Value, action: &Value| policy("Allow", principal, action);
    let (root, anyone) = (format!("arn:aws:iam::{OWNER}:root"), json!({ "AWS": "*" }));
    let role_only = statements(&json!([
        { "Effect": "Allow", "Principal": "*", "Action": "ecr:*" },
        { "Effect": "Deny", "NotPrincipal": { "AWS": [ROLE, "111122223333"] }, "Action": "ecr:List*" },
    ]));
    let denied = statements(&json!([
        { "Effect": "Allow", "Principal": "*", "Action": "*" },
        { "Effect": "Deny", "Principal": { "AWS": ROLE }, "Action": ["ecr:ListImages"] },
    ]));
    for (text, expected) in [
        (allow(&json!("*"), &json!("*")), [true, true, true]),
        (allow(&anyone, &json!("ecr:*")), [true, true, true]),
        (allow(&json!({ "AWS": OWNER }), &json!("ecr:ListImages")), [true, true, false]),
        (allow(&json!({ "AWS": root }), &json!(["ecr:PutImage", "ecr:List*"])), [true, true, false]),
        (allow(&json!({ "AWS": [ACCOUNT, ROLE] }), &json!("ecr:*Images")), [true, false, true]),
        (allow(&json!({ "AWS": ROLE }), &json!("ecr:ListImages")), [true, false, false]),
        (allow(&anyone, &json!("ecr:PutImage")), [false, false, false]),
        (role_only, [true, false, false]),
        (denied, [false, true, true]),
    ] {
        set_policy(&repository, &text).await;
        let mut answers = [false; 3];
        for (client, answer) in [&role, &account, &other].into_iter().zip(&mut answers) {
            let list = client.list_images().registry_id("111122223333").repository_name("app").send().await;
            *answer = list.is_ok();
        }
        assert_eq!(answers, expected, "{text}");
        repository.list_images().repository_name("app").send().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_policy_denies_its_owner_is_denied() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let allow = json!({ "Effect": "Allow", "Principal": "*", "Action": "*" });
    let deny = json!({ "Effect": "Deny", "Principal": "*", "Action": "ecr:PutImage" });
    set_policy(&client, &statements(&json!([allow, deny]))).await;
    let put = client.put_image().repository_name("app").image_manifest(manifest(b"{}", &[]).to_string());
    let error = put.send().await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDeniedException"));
    let message = error.message().unwrap();
    assert!(message.ends_with(":repository/app with an explicit deny in a resource-based policy"), "{message}");
    upload(&client, "app", b"{}").await;
}

#[tokio::test]
async fn neither_a_caller_nor_an_owner_is_locked_out_by_mistake() {
    let World { ecr, client: other } = world(None).await;
    let owner = owner(&ecr).await;
    let role = client_of(&ecr, assume(&ecr, ROLE, None).await.unwrap(), REGION);
    let allow = |principal: &str| json!({ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "ecr:*" });
    let deny = |principal: &str| json!({ "Effect": "Deny", "Principal": { "AWS": principal }, "Action": "ecr:*" });
    let set = |client: &Client, text: Value| {
        client.set_repository_policy().registry_id(OWNER).repository_name("app").policy_text(statements(&text))
    };
    // The role itself; the other account, which nothing would allow any more; and the owner, by the other account.
    refused!(set(&role, json!([deny(ROLE)])), is_invalid_parameter_exception);
    set(&owner, json!([deny(ROLE), allow(ACCOUNT)])).send().await.unwrap();
    refused!(set(&other, json!([])), is_invalid_parameter_exception);
    refused!(set(&other, json!([allow(ACCOUNT), deny(OWNER)])), is_invalid_parameter_exception);
    set(&other, json!([allow(ACCOUNT)])).send().await.unwrap();
    set(&other, json!([])).force(true).send().await.unwrap();
    let error = set(&other, json!([allow(ACCOUNT)])).send().await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDeniedException"));
}

#[tokio::test]
async fn a_token_opens_every_registry_of_its_region_as_far_as_the_policies_allow() {
    let World { ecr, client: here } = World::start().await;
    let owner = owner(&ecr).await;
    push_image(&owner, "app", b"{}", &[], Some("v1")).await;
    let asked = token_for(&here, OWNER).await;
    let theirs = Registry::of(&owner).await;
    assert_eq!(asked.authorization_data()[0].proxy_endpoint(), Some(theirs.endpoint.as_str()));
    let foreign = Registry::in_answer(&asked);
    // The same is allowed to those who logged in at home.
    let home = Registry::of(&here).await.at(&theirs.endpoint);
    let elsewhere = Registry::of(&client(&ecr, OWNER, "us-east-1")).await.at(&theirs.endpoint);

    for registry in [&foreign, &home] {
        assert_eq!(registry.request("GET", "").send().await.unwrap().status(), 200);
        let response = registry.request("GET", "app/manifests/v1").send().await.unwrap();
        assert_eq!(response.status(), 403);
        let body = response.text().await.unwrap();
        let message =
            format!("arn:aws:iam::{ACCOUNT}:root is not authorized to perform: ecr:BatchGetImage on resource");
        assert!(body.contains("\"DENIED\"") && body.contains(&message), "{body}");
        assert_eq!(refusal(registry.request("GET", "other/manifests/v1")).await, refused_v2(404, "NAME_UNKNOWN"));
    }
    set_policy(&owner, &policy("Allow", &json!({ "AWS": ACCOUNT }), &json!("ecr:BatchGetImage"))).await;
    for registry in [&foreign, &home, &theirs] {
        assert_eq!(registry.request("GET", "app/manifests/v1").send().await.unwrap().status(), 200);
    }
    assert_eq!(refusal(elsewhere.request("GET", "app/manifests/v1")).await, refused_v2(403, "DENIED"));
    // On the main port, it is the registry that the token was asked for.
    let main = format!("{}/v2/app/manifests/v1", ecr.endpoint());
    assert_eq!(foreign.request("GET", &main).send().await.unwrap().status(), 200);
    assert_eq!(refusal(home.request("GET", &main)).await, refused_v2(404, "NAME_UNKNOWN"));
}

#[tokio::test]
async fn each_request_below_v2_takes_the_actions_of_its_api() {
    let World { ecr, client: here } = World::start().await;
    let owner = owner(&ecr).await;
    push_image(&owner, "app", b"{}", &[], Some("v1")).await;
    let registry = Registry::in_answer(&token_for(&here, OWNER).await);
    let everything = policy("Allow", &json!("*"), &json!("*"));
    set_policy(&owner, &everything).await;
    let started = registry.request("POST", "app/blobs/uploads/").send().await.unwrap();
    let upload = started.headers()[LOCATION].to_str().unwrap().to_owned();
    let (blob, put) = (format!("app/blobs/{}", digest(b"{}")), format!("{upload}?digest={}", digest(b"new")));
    let image = digest(manifest(b"{}", &[]).to_string().as_bytes());
    let referrers = format!("app/referrers/{image}");

    for (method, path, actions, content, status) in [
        ("HEAD", "app/manifests/v1", vec!["BatchGetImage"], "", 200),
        ("GET", "app/manifests/v1", vec!["BatchGetImage"], "", 200),
        ("HEAD", &blob, vec!["BatchCheckLayerAvailability"], "", 200),
        ("GET", &blob, vec!["GetDownloadUrlForLayer"], "", 307),
        ("GET", "app/tags/list", vec!["ListImages"], "", 200),
        ("GET", &referrers, vec!["BatchGetImage"], "", 200),
        ("POST", "app/blobs/uploads/", vec!["InitiateLayerUpload"], "", 202),
        ("PATCH", &upload, vec!["UploadLayerPart"], "new", 201),
        ("GET", &upload, vec!["UploadLayerPart"], "", 204),
        ("PUT", &put, vec!["UploadLayerPart", "CompleteLayerUpload"], "", 201),
        ("PUT", "app/manifests/v2", vec!["PutImage"], "{}", 400),
        ("DELETE", "app/manifests/v1", vec!["BatchDeleteImage"], "", 202),
    ] {
        let request = || registry.request(method, path).body(content);
        for action in &actions {
            let allow = json!({ "Effect": "Allow", "Principal": "*", "Action": "*" });
            let deny = json!({ "Effect": "Deny", "Principal": { "AWS": ACCOUNT }, "Action": format!("ecr:{action}") });
            set_policy(&owner, &statements(&json!([allow, deny]))).await;
            assert_eq!(request().send().await.unwrap().status(), 403, "{method} {path} {action}");
        }
        let allowed: Vec<String> = actions.iter().map(|action| format!("ecr:{action}")).collect();
        set_policy(&owner, &policy("Allow", &json!({ "AWS": ACCOUNT }), &json!(allowed))).await;
        assert_eq!(request().send().await.unwrap().status(), status, "{method} {path}");
    }
    assert!(ecr.view(OWNER, REGION, "app").unwrap().images.is_empty());
}
