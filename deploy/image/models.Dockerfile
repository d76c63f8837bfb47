# An image of models, whose content components/models-image copies into a pod. The context is the folder of the models:
#
#     docker build -f deploy/image/models.Dockerfile -t lstm-models:release-1 models
FROM busybox:1.37.0
COPY . /models
USER 65532:65532
