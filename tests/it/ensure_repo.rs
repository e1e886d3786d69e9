//! EnsureRepository against the local ECR.

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, Tag,
};
use ecr_local::Fault;
use ensure_repo::handle;
use shared::{
    contract::Ensured,
    error::{ErrorName, Named as _},
    names::Digest,
    serve::decode,
};

use crate::world::{REPOSITORY, SOURCE, TARGET, World, target_input};

async fn ensure(world: &World) -> Result<Ensured, ensure_repo::Error> {
    let input = decode(target_input(&Digest::of(b"any"), None)).unwrap();
    handle(&world.registries().await, input).await
}

#[tokio::test]
async fn a_new_repository_has_the_settings_of_the_source() {
    let world = World::start().await;
    let source = world.client(SOURCE).await;
    source.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let exclusion = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    let tag = Tag::builder().key("team").value("platform").build().unwrap();
    source
        .create_repository()
        .repository_name(REPOSITORY)
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(exclusion.clone())
        .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build())
        .encryption_configuration(
            EncryptionConfiguration::builder().encryption_type(EncryptionType::Kms).build().unwrap(),
        )
        .tags(tag.clone())
        .send()
        .await
        .unwrap();

    assert!(ensure(&world).await.unwrap().created);

    let target = world.client(TARGET).await;
    let described = target.describe_repositories().repository_names(REPOSITORY).send().await.unwrap();
    let made = &described.repositories()[0];
    assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(made.image_tag_mutability_exclusion_filters(), [exclusion]);
    assert!(made.image_scanning_configuration().unwrap().scan_on_push());
    assert_eq!(made.encryption_configuration().unwrap().encryption_type(), &EncryptionType::Kms);
    let arn = made.repository_arn().unwrap();
    assert!(arn.contains(TARGET), "{arn}");
    let tags = target.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    assert_eq!(tags.tags(), [tag]);
}

#[tokio::test]
async fn a_repository_that_exists_is_left_alone_and_costs_one_call() {
    let world = World::start().await;
    world.create_repository(TARGET).await;
    world.ecr.reset_stats();
    assert!(!ensure(&world).await.unwrap().created);
    assert_eq!(world.calls(TARGET, "DescribeRepositories"), 1);
    assert_eq!(world.calls(TARGET, "CreateRepository"), 0);
    assert_eq!(world.calls(SOURCE, "DescribeRepositories"), 0);
}

#[tokio::test]
async fn a_repository_that_another_run_made_meanwhile_is_a_success() {
    let world = World::start().await;
    world.ecr.fault(Fault::new("CreateRepository", 400, "RepositoryAlreadyExistsException").in_region(TARGET));
    assert!(!ensure(&world).await.unwrap().created);
}

#[tokio::test]
async fn a_source_repository_that_is_gone_is_named() {
    let world = World::start().await;
    world.client(SOURCE).await.delete_repository().repository_name(REPOSITORY).send().await.unwrap();
    let error = ensure(&world).await.unwrap_err();
    assert_eq!(error.name(), ErrorName::ImageNotFound);
    assert_eq!(error.to_string(), "the source repository prod/app in eu-central-1 does not exist");
}

#[tokio::test]
async fn what_the_target_refuses_is_told_with_call_region_and_repository() {
    let world = World::start().await;
    for (code, status, name) in [
        ("AccessDeniedException", 400, ErrorName::AccessDenied),
        ("KmsException", 400, ErrorName::AccessDenied),
        ("LimitExceededException", 400, ErrorName::QuotaExceeded),
        ("ThrottleException", 400, ErrorName::RegistryThrottled),
        ("InvalidParameterException", 400, ErrorName::InvalidInput),
        ("ServerException", 500, ErrorName::RegistryUnavailable),
    ] {
        world.ecr.clear_faults();
        world.ecr.fault(Fault::new("CreateRepository", status, code).in_region(TARGET).for_ever());
        let error = ensure(&world).await.unwrap_err();
        assert_eq!(error.name(), name, "{code}");
        assert_eq!(error.to_string(), "CreateRepository on prod/app in eu-west-1 failed");
        assert!(std::error::Error::source(&error).unwrap().to_string().starts_with(code));
    }
}
