use std::collections::BTreeMap;

use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};
use ecr_local::RepositorySettings;
use serde_json::{Value, json};

use super::{ACCOUNT, REGION, World, client, push_image, refused};

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().unwrap()
}

fn exclusion(filter: &str) -> ImageTagMutabilityExclusionFilter {
    ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter(filter)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_repository_has_the_settings_it_was_created_with() {
    let World { ecr: _ecr, client } = World::start().await;
    client
        .create_repository()
        .repository_name("prod/app")
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(exclusion("dev-*"))
        .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build())
        .encryption_configuration(
            EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap(),
        )
        .tags(tag("team", "a"))
        .send()
        .await
        .unwrap();

    let described = client.describe_repositories().repository_names("prod/app").send().await.unwrap();
    let repository = &described.repositories()[0];
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/prod/app");
    assert_eq!(repository.repository_arn(), Some(arn.as_str()));
    assert_eq!(repository.registry_id(), Some(ACCOUNT));
    assert!(repository.repository_uri().unwrap().ends_with("/prod/app"));
    assert!(repository.created_at().is_some());
    assert_eq!(repository.image_tag_mutability(), Some(&ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(repository.image_tag_mutability_exclusion_filters(), [exclusion("dev-*")]);
    assert!(repository.image_scanning_configuration().unwrap().scan_on_push());
    let encryption = repository.encryption_configuration().unwrap();
    assert_eq!(encryption.encryption_type(), &EncryptionType::Kms);
    assert!(encryption.kms_key().unwrap().starts_with(&format!("arn:aws:kms:{REGION}:{ACCOUNT}:")));
    let tags = client.list_tags_for_resource().resource_arn(&arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag("team", "a")]);

    let mutability = client
        .put_image_tag_mutability()
        .repository_name("prod/app")
        .image_tag_mutability(ImageTagMutability::Mutable)
        .send()
        .await
        .unwrap();
    assert_eq!(mutability.image_tag_mutability(), Some(&ImageTagMutability::Mutable));
    client
        .put_image_scanning_configuration()
        .repository_name("prod/app")
        .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(false).build())
        .send()
        .await
        .unwrap();
    let described = client.describe_repositories().send().await.unwrap();
    let repository = &described.repositories()[0];
    assert_eq!(repository.image_tag_mutability(), Some(&ImageTagMutability::Mutable));
    assert!(repository.image_tag_mutability_exclusion_filters().is_empty());
    assert!(!repository.image_scanning_configuration().unwrap().scan_on_push());
}

#[tokio::test]
async fn create_repository_refuses_what_the_documentation_says() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let create = |name: &str| client.create_repository().repository_name(name);
    let error = refused!(create("app"), is_repository_already_exists_exception);
    assert_eq!(
        error.meta().message(),
        Some("The repository with name 'app' in the registry with id '123456789012' already exists")
    );
    refused!(create("App"), is_invalid_parameter_exception);
    refused!(create("new").tags(tag("aws:x", "y")), is_invalid_tag_parameter_exception);
    let too_many = (0..51).map(|number| tag(&format!("key{number}"), "")).collect();
    refused!(create("new").set_tags(Some(too_many)), is_too_many_tags_exception);
    refused!(
        create("new").image_tag_mutability(ImageTagMutability::MutableWithExclusion),
        is_invalid_parameter_exception
    );
    refused!(create("new").image_tag_mutability_exclusion_filters(exclusion("*")), is_invalid_parameter_exception);
    let elsewhere = EncryptionConfiguration::builder()
        .encryption_type(EncryptionType::Kms)
        .kms_key(format!("arn:aws:kms:us-east-1:{ACCOUNT}:key/1"));
    refused!(create("new").encryption_configuration(elsewhere.build().unwrap()), is_kms_exception);
    assert_eq!(client.describe_repositories().send().await.unwrap().repositories().len(), 1);
}

#[tokio::test]
async fn a_repository_with_images_is_deleted_by_force_only() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    push_image(&client, "app", b"{}", &[], None).await;
    refused!(client.delete_repository().repository_name("app"), is_repository_not_empty_exception);
    let deleted = client.delete_repository().repository_name("app").force(true).send().await.unwrap();
    assert_eq!(deleted.repository().unwrap().repository_name(), Some("app"));
    refused!(client.delete_repository().repository_name("app"), is_repository_not_found_exception);
}

#[tokio::test]
async fn repositories_come_in_pages() {
    let World { ecr: _ecr, client } = World::start().await;
    for name in ["e5", "a1", "c3", "b2", "d4"] {
        client.create_repository().repository_name(name).send().await.unwrap();
    }
    let (mut pages, mut token) = (Vec::new(), None);
    loop {
        let page = client.describe_repositories().max_results(2).set_next_token(token).send().await.unwrap();
        pages.push(
            page.repositories().iter().map(|each| each.repository_name().unwrap().to_owned()).collect::<Vec<_>>(),
        );
        token = page.next_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec!["a1", "b2"], vec!["c3", "d4"], vec!["e5"]]);
    refused!(client.describe_repositories().max_results(1001), is_invalid_parameter_exception);
    refused!(client.describe_repositories().next_token("?"), is_invalid_parameter_exception);
    refused!(client.describe_repositories().repository_names("a1").max_results(2), is_invalid_parameter_exception);
    refused!(client.describe_repositories().repository_names("zz"), is_repository_not_found_exception);
}

#[tokio::test]
async fn resource_tags_come_and_go() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/app");
    client.tag_resource().resource_arn(&arn).tags(tag("a", "1")).tags(tag("b", "2")).send().await.unwrap();
    client.tag_resource().resource_arn(&arn).tags(tag("a", "3")).send().await.unwrap();
    client.untag_resource().resource_arn(&arn).tag_keys("b").tag_keys("absent").send().await.unwrap();
    let tags = client.list_tags_for_resource().resource_arn(&arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag("a", "3")]);

    let too_many = (0..50).map(|number| tag(&format!("key{number}"), "")).collect();
    refused!(client.tag_resource().resource_arn(&arn).set_tags(Some(too_many)), is_too_many_tags_exception);
    refused!(
        client.tag_resource().resource_arn(&arn).tags(tag("x", "1")).tags(tag("x", "2")),
        is_invalid_tag_parameter_exception
    );
    refused!(client.list_tags_for_resource().resource_arn(format!("{arn}2")), is_repository_not_found_exception);
    let elsewhere = arn.replace(REGION, "us-east-1");
    refused!(client.list_tags_for_resource().resource_arn(elsewhere), is_invalid_parameter_exception);
}

#[tokio::test]
async fn policies_are_kept_as_they_were_given() {
    let World { ecr: _ecr, client } = World::with_repository("app").await;
    let policy = r#"{ "Version": "2012-10-17",  "Statement": [] }"#;
    refused!(client.get_repository_policy().repository_name("app"), is_repository_policy_not_found_exception);
    refused!(client.set_repository_policy().repository_name("app").policy_text("{"), is_invalid_parameter_exception);
    client.set_repository_policy().repository_name("app").policy_text(policy).send().await.unwrap();
    let kept = client.get_repository_policy().repository_name("app").send().await.unwrap();
    assert_eq!(kept.policy_text(), Some(policy));
    let deleted = client.delete_repository_policy().repository_name("app").send().await.unwrap();
    assert_eq!(deleted.policy_text(), Some(policy));
    refused!(client.delete_repository_policy().repository_name("app"), is_repository_policy_not_found_exception);

    let rule = json!({ "rulePriority": 1, "description": "keep ten images", "action": { "type": "expire" },
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 10 } });
    let policy = json!({ "rules": [rule] }).to_string();
    refused!(client.get_lifecycle_policy().repository_name("app"), is_lifecycle_policy_not_found_exception);
    refused!(
        client.put_lifecycle_policy().repository_name("app").lifecycle_policy_text(r#"{"rules":[]}"#),
        is_invalid_parameter_exception
    );
    client.put_lifecycle_policy().repository_name("app").lifecycle_policy_text(&policy).send().await.unwrap();
    let kept = client.get_lifecycle_policy().repository_name("app").send().await.unwrap();
    assert_eq!(kept.lifecycle_policy_text(), Some(policy.as_str()));
    client.delete_lifecycle_policy().repository_name("app").send().await.unwrap();
    refused!(client.delete_lifecycle_policy().repository_name("app"), is_lifecycle_policy_not_found_exception);
}

#[tokio::test]
async fn a_policy_that_could_not_be_replaced_has_to_be_forced() {
    let World { ecr, client } = World::with_repository("app").await;
    let set = |text: &Value| {
        let text = json!({ "Version": "2012-10-17", "Statement": [text] }).to_string();
        client.set_repository_policy().repository_name("app").policy_text(text)
    };
    let deny = |principal: Value, action: Value| json!({ "Effect": "Deny", "Principal": principal, "Action": action });
    let owner = format!("arn:aws:iam::{ACCOUNT}:root");
    for (principal, action) in [
        (json!("*"), json!("ecr:SetRepositoryPolicy")),
        (json!({ "AWS": "*" }), json!(["ecr:PutImage", "ecr:Set*"])),
        (json!({ "AWS": owner }), json!("ecr:*")),
        (json!({ "AWS": ACCOUNT }), json!("*")),
    ] {
        refused!(set(&deny(principal, action)), is_invalid_parameter_exception);
    }
    assert_eq!(ecr.settings(ACCOUNT, REGION, "app").unwrap().policy, None);
    for (principal, action) in [(json!("*"), json!("ecr:PutImage")), (json!({ "AWS": "210987654321" }), json!("*"))] {
        set(&deny(principal, action)).send().await.unwrap();
    }
    set(&deny(json!("*"), json!("ecr:SetRepositoryPolicy"))).force(true).send().await.unwrap();
    let error = set(&deny(json!("*"), json!("ecr:PutImage"))).send().await.unwrap_err();
    assert_eq!(error.code(), Some("AccessDeniedException"));
    // What is not denied is a way out.
    client.delete_repository_policy().repository_name("app").send().await.unwrap();
    set(&deny(json!("*"), json!("ecr:PutImage"))).send().await.unwrap();
}

#[tokio::test]
async fn settings_are_shown_without_a_call() {
    let World { ecr, client } = World::with_repository("plain").await;
    let key = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/1");
    let encryption = EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).kms_key(&key);
    client
        .create_repository()
        .repository_name("app")
        .encryption_configuration(encryption.build().unwrap())
        .tags(tag("team", "a"))
        .send()
        .await
        .unwrap();
    let mutability = client
        .put_image_tag_mutability()
        .repository_name("app")
        .image_tag_mutability(ImageTagMutability::MutableWithExclusion)
        .image_tag_mutability_exclusion_filters(exclusion("v*"))
        .image_tag_mutability_exclusion_filters(exclusion("latest"))
        .send()
        .await
        .unwrap();
    assert_eq!(mutability.image_tag_mutability_exclusion_filters(), [exclusion("v*"), exclusion("latest")]);
    let scanning = client
        .put_image_scanning_configuration()
        .repository_name("app")
        .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build())
        .send()
        .await
        .unwrap();
    assert!(scanning.image_scanning_configuration().unwrap().scan_on_push());
    let policy = r#"{ "Statement": [] }"#;
    client.set_repository_policy().repository_name("app").policy_text(policy).send().await.unwrap();
    let lifecycle = json!({ "rules": [], "padding": "-".repeat(100) }).to_string();
    client.put_lifecycle_policy().repository_name("app").lifecycle_policy_text(&lifecycle).send().await.unwrap();

    let described = client.describe_repositories().repository_names("app").send().await.unwrap();
    let encryption = described.repositories()[0].encryption_configuration().unwrap();
    assert_eq!(encryption.kms_key(), Some(key.as_str()));
    ecr.reset_stats();
    let plain = RepositorySettings {
        image_tag_mutability: "MUTABLE".to_owned(),
        exclusion_filters: Vec::new(),
        scan_on_push: false,
        encryption_type: "AES256".to_owned(),
        kms_key: None,
        tags: BTreeMap::new(),
        policy: None,
        lifecycle_policy: None,
    };
    assert_eq!(ecr.settings(ACCOUNT, REGION, "plain"), Some(plain));
    let settings = ecr.settings(ACCOUNT, REGION, "app").unwrap();
    assert_eq!(
        serde_json::to_value(&settings).unwrap(),
        json!({
            "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
            "exclusionFilters": ["v*", "latest"],
            "scanOnPush": true,
            "encryptionType": "KMS",
            "kmsKey": key,
            "tags": { "team": "a" },
            "policy": policy,
            "lifecyclePolicy": lifecycle,
        })
    );
    for (account, region, name) in [(ACCOUNT, "us-east-1", "app"), ("210987654321", REGION, "app"), ("", "", "App")] {
        assert_eq!(ecr.settings(account, region, name), None);
    }
    assert!(ecr.stats().regions.is_empty());
}

#[tokio::test]
async fn settings_that_break_the_model_are_refused() {
    let World { ecr, client } = World::with_repository("app").await;
    let before = ecr.settings(ACCOUNT, REGION, "app");
    let mutability = |mode: ImageTagMutability, filters: &[&str]| {
        let filters = filters.iter().map(|filter| exclusion(filter)).collect();
        let call = client.put_image_tag_mutability().repository_name("app").image_tag_mutability(mode);
        call.set_image_tag_mutability_exclusion_filters(Some(filters))
    };
    for (mode, filters) in [
        (ImageTagMutability::Mutable, vec!["v*"]),
        (ImageTagMutability::Immutable, vec!["v*"]),
        (ImageTagMutability::MutableWithExclusion, vec![]),
        (ImageTagMutability::ImmutableWithExclusion, vec!["*a*b*"]),
        (ImageTagMutability::ImmutableWithExclusion, vec!["a b"]),
        (ImageTagMutability::ImmutableWithExclusion, vec!["1", "2", "3", "4", "5", "6"]),
        (ImageTagMutability::from("SOMETIMES"), vec![]),
    ] {
        refused!(mutability(mode, &filters), is_invalid_parameter_exception);
    }
    let policy = |text: &str| client.set_repository_policy().repository_name("app").policy_text(text);
    let too_long = format!(r#"{{ "Statement": [], "Id": "{}" }}"#, "x".repeat(10_240));
    let for_nobody = r#"{ "Statement": { "Effect": "Allow", "Action": "ecr:PutImage" } }"#;
    for text in ["{", "[]", "{}", r#"{ "Statement": [{}] }"#, for_nobody, &too_long] {
        refused!(policy(text), is_invalid_parameter_exception);
    }
    let lifecycle = |text: &str| client.put_lifecycle_policy().repository_name("app").lifecycle_policy_text(text);
    let too_long = json!({ "rules": [], "padding": "x".repeat(30_720) }).to_string();
    for text in [r#"{"rules":[]}"#, &"x".repeat(100), &json!({ "x": "x".repeat(100) }).to_string(), &too_long] {
        refused!(lifecycle(text), is_invalid_parameter_exception);
    }
    assert_eq!(ecr.settings(ACCOUNT, REGION, "app"), before);

    // Of a repository that is not there, each tells so.
    let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
    let rules = json!({ "rules": [], "padding": "x".repeat(100) }).to_string();
    let statements = r#"{ "Statement": [] }"#;
    refused!(mutability(ImageTagMutability::Mutable, &[]).repository_name("no"), is_repository_not_found_exception);
    let scan = client.put_image_scanning_configuration().image_scanning_configuration(scanning);
    refused!(scan.repository_name("no"), is_repository_not_found_exception);
    refused!(policy(statements).repository_name("no"), is_repository_not_found_exception);
    refused!(client.get_repository_policy().repository_name("no"), is_repository_not_found_exception);
    refused!(client.delete_repository_policy().repository_name("no"), is_repository_not_found_exception);
    refused!(lifecycle(&rules).repository_name("no"), is_repository_not_found_exception);
    refused!(client.get_lifecycle_policy().repository_name("no"), is_repository_not_found_exception);
    refused!(client.delete_lifecycle_policy().repository_name("no"), is_repository_not_found_exception);
}

#[tokio::test]
async fn each_region_and_each_account_is_a_registry_of_its_own() {
    let World { ecr, client: here } = World::with_repository("app").await;
    let other_region = client(&ecr, ACCOUNT, "us-east-1");
    let other_account = client(&ecr, "210987654321", REGION);
    let keyless = client(&ecr, "test", REGION);
    for elsewhere in [&other_region, &other_account, &keyless] {
        refused!(elsewhere.describe_repositories().repository_names("app"), is_repository_not_found_exception);
    }
    let created = keyless.create_repository().repository_name("app").send().await.unwrap();
    assert_eq!(created.repository().unwrap().registry_id(), Some("000000000000"));
    // An account may be asked for by its id, as far as its repositories allow it.
    let policy = r#"{ "Statement": { "Effect": "Allow", "Principal": "*", "Action": "ecr:Describe*" } }"#;
    keyless.set_repository_policy().repository_name("app").policy_text(policy).send().await.unwrap();
    let named = here.describe_repositories().registry_id("000000000000").repository_names("app").send().await.unwrap();
    assert_eq!(named.repositories().len(), 1);
    assert_eq!(named.repositories()[0].registry_id(), Some("000000000000"));

    push_image(&here, "app", b"{}", &[], None).await;
    let elsewhere = keyless.list_images().repository_name("app").send().await.unwrap();
    assert!(elsewhere.image_ids().is_empty());
}

/// A call without the SDK.
fn call(world: &World, operation: &str, body: &'static str) -> reqwest::RequestBuilder {
    let scope = format!("{ACCOUNT}/20260101/{REGION}/ecr/aws4_request");
    reqwest::Client::new()
        .post(world.ecr.endpoint())
        .header("x-amz-target", format!("AmazonEC2ContainerRegistry_V20150921.{operation}"))
        .header("authorization", format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"))
        .body(body)
}

#[tokio::test]
async fn an_error_is_written_as_json_1_1_has_it() {
    let world = World::start().await;
    for (operation, body, status, name) in [
        ("StartImageScan", "{}", 400, "UnknownOperationException"),
        ("DeleteRepository", "{", 400, "SerializationException"),
        ("DeleteRepository", "{}", 400, "InvalidParameterException"),
        ("DeleteRepository", r#"{"repositoryName": "app"}"#, 400, "RepositoryNotFoundException"),
    ] {
        let response = call(&world, operation, body).send().await.unwrap();
        assert_eq!(response.status(), status, "{operation} {body}");
        assert_eq!(response.headers()["x-amzn-errortype"], name);
        assert_eq!(response.headers()["content-type"], "application/x-amz-json-1.1");
        let error: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(error["__type"], name);
        assert!(error["message"].is_string());
    }
    let other_service = format!("AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/s3/aws4_request");
    for (authorization, status, name) in
        [(other_service.as_str(), 403, "InvalidSignatureException"), ("Bearer x", 400, "IncompleteSignatureException")]
    {
        let request = reqwest::Client::new().post(world.ecr.endpoint()).header("authorization", authorization);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-amzn-errortype"], name);
    }
    let unsigned = reqwest::Client::new().post(world.ecr.endpoint()).body("{}").send().await.unwrap();
    assert_eq!(unsigned.status(), 403);
    assert_eq!(unsigned.headers()["x-amzn-errortype"], "MissingAuthenticationTokenException");
}

#[tokio::test]
async fn every_operation_of_the_readme_is_there() {
    let world = World::start().await;
    let readme = include_str!("../../ecr-local/README.md");
    let calls = readme.split("\n## Calls\n").nth(1).and_then(|rest| rest.split("\n### ").next()).unwrap();
    let operations: Vec<&str> = calls.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(operations.len(), 26, "{operations:?}");
    for operation in operations {
        let response = call(&world, operation, "[]").send().await.unwrap();
        let error = response.headers()["x-amzn-errortype"].to_str().unwrap().to_owned();
        assert_eq!(error, "InvalidParameterException", "{operation}");
    }
}
